CREATE TABLE audit_log (
	action text CHECK (action IN ('insert into', 'update set', 'delete from')),
	"delete from" boolean,
	set_by text -- who did UPDATE audit_log SET ...
);
CREATE POLICY audit_del ON audit_log FOR DELETE USING (false);
CREATE TRIGGER audit_upd BEFORE UPDATE OF action ON audit_log FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger();
REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM app;
ALTER TABLE audit_log ADD CONSTRAINT audit_fk FOREIGN KEY (set_by) REFERENCES users (name) ON DELETE SET NULL ON UPDATE SET DEFAULT NOT VALID;
