BEGIN;
CREATE TABLE lead_status (code text PRIMARY KEY, label text NOT NULL);
INSERT INTO lead_status VALUES ('new', 'New'), ('won', 'Won'), ('lost', 'Lost; UPDATE later');
ALTER TABLE leads ADD CONSTRAINT leads_status_fk FOREIGN KEY (status) REFERENCES lead_status
	ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID;
COMMIT;
