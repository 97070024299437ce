ALTER TABLE leads ADD score int; update leads set score=0; ALTER TABLE leads ALTER score SET DEFAULT 0;
