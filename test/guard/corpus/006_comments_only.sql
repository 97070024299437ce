/* DELETE FROM leads;
   /* nested: UPDATE leads SET status = 'x'; */
   INSERT INTO leads SELECT 1; */
-- UPDATE leads SET phone = NULL;
ALTER TABLE leads ADD COLUMN "update" text; -- DELETE FROM leads
COMMENT ON COLUMN leads."update" IS $c$ UPDATE leads SET "update" = 'x'; $c$;
