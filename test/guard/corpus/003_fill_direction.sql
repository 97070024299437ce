-- adds the direction of the last call
ALTER TABLE leads ADD COLUMN last_call_direction text;

UPDATE leads
   SET last_call_direction = 'out'
 WHERE last_call_direction IS NULL;
