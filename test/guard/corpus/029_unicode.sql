-- Größe, Straße: 日本語 𝄞
ALTER TABLE "Größe" ADD COLUMN "Straße" text; /* 🙂 */ UPDATE "Größe" SET "Straße" = '日本';
