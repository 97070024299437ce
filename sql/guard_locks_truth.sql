-- The guard's lock rules against the server itself: what they say of a statement
-- is what the server does, for each of these statements.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET evmig.guard_small_table = '0';
CREATE DOMAIN guard_truth_positive AS int CHECK (VALUE > 0);
CREATE DOMAIN guard_truth_plain AS int;
CREATE TYPE guard_truth_enum AS ENUM ('a', 'b');
CREATE TABLE guard_truth_other (id int PRIMARY KEY, big bigint UNIQUE);
INSERT INTO guard_truth_other SELECT n, n FROM generate_series(1, 50) n;
CREATE TABLE guard_truth (
	id int, i int, s smallint, b bigint, v varchar(50), vn varchar, vc varchar(50) COLLATE "C", t text, c char(10),
	n numeric(10,2), nn numeric, ts timestamp, tz timestamptz, ts3 timestamp(3), d date, iv interval, iv0 interval(0),
	tm time(3), bt bit varying(8), x xml, j json, jb jsonb, u uuid, o oid, e guard_truth_enum, ca cidr,
	dp guard_truth_plain, ia int[], va varchar(10)[], nm name, f real,
	checked int CHECK (checked > 0), proven int, half int, vchecked varchar(50), keyed int, vkeyed varchar(50), vexpr varchar(50),
	vpred varchar(50), fk int REFERENCES guard_truth_other, vfirst varchar(10), nodef int NOT NULL DEFAULT 1,
	CONSTRAINT proves CHECK (proven IS NOT NULL AND proven < 1000),
	CONSTRAINT vcheck CHECK (vchecked <> ''));
INSERT INTO guard_truth (id, i, v, proven, half, checked, vchecked, keyed, fk)
	SELECT n, n, n, n, n, n, n, n, n FROM generate_series(1, 50) n;
ALTER TABLE guard_truth ADD CONSTRAINT half_check CHECK (half IS NOT NULL) NOT VALID;
CREATE UNIQUE INDEX guard_truth_id ON guard_truth (id);
CREATE UNIQUE INDEX guard_truth_proven ON guard_truth (proven);
CREATE INDEX guard_truth_keyed ON guard_truth (keyed);
CREATE INDEX guard_truth_vkeyed ON guard_truth (vkeyed);
CREATE INDEX guard_truth_vfirst ON guard_truth (i, vfirst varchar_pattern_ops);
CREATE INDEX guard_truth_vexpr ON guard_truth (lower(vexpr));
CREATE INDEX guard_truth_vpred ON guard_truth (i) WHERE vpred <> '';
CREATE INDEX guard_truth_vc ON guard_truth (vc);
CREATE INDEX guard_truth_va ON guard_truth (va);
CREATE FUNCTION guard_truth_volatile_sql() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION guard_truth_volatile_nested() RETURNS int LANGUAGE sql AS 'SELECT guard_truth_volatile_sql() + 1';
CREATE FUNCTION guard_truth_really() RETURNS float8 LANGUAGE sql AS 'SELECT random()';
CREATE FUNCTION guard_truth_table() RETURNS int LANGUAGE sql AS 'SELECT i FROM guard_truth_other o, LATERAL (SELECT o.id) x(i) LIMIT 1';
CREATE FUNCTION guard_truth_atomic() RETURNS int LANGUAGE sql RETURN 1;
CREATE FUNCTION guard_truth_pl() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION guard_truth_stable() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END';
CREATE FUNCTION guard_truth_args(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT $1 + b';

-- Run a statement, see what it did to the table, and take it back.
CREATE FUNCTION guard_truth_did(statement text, OUT lock text, OUT rewritten bool, OUT scanned bool, OUT rebuilt bool)
LANGUAGE plpgsql AS $$
DECLARE
	node oid := pg_relation_filenode('guard_truth');
	nodes oid[] := ARRAY(SELECT pg_relation_filenode(indexrelid) FROM pg_index WHERE indrelid = 'guard_truth'::regclass);
	scans bigint := pg_stat_get_xact_numscans('guard_truth'::regclass);
BEGIN
	BEGIN
		EXECUTE statement;
		rewritten := pg_relation_filenode('guard_truth') <> node;
		scanned := pg_stat_get_xact_numscans('guard_truth'::regclass) > scans;
		rebuilt := EXISTS (SELECT FROM pg_index WHERE indrelid = 'guard_truth'::regclass AND pg_relation_filenode(indexrelid) <> ALL (nodes));
		SELECT mode INTO lock FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'guard_truth'::regclass
		ORDER BY array_position('{AccessExclusiveLock,ExclusiveLock,ShareRowExclusiveLock,ShareLock,ShareUpdateExclusiveLock,RowExclusiveLock,RowShareLock,AccessShareLock}', mode) LIMIT 1;
		RAISE SQLSTATE 'TRUTH';
	EXCEPTION WHEN SQLSTATE 'TRUTH' THEN
		NULL;
	WHEN OTHERS THEN
		lock := 'fails';
	END;
END
$$;

-- what the guard says of it
CREATE FUNCTION guard_truth_said(statement text, OUT rules text, OUT lock text, OUT rewritten bool, OUT scanned bool)
LANGUAGE sql AS $$
	SELECT coalesce(string_agg(rule, ' ' ORDER BY rule), ''), max(lock_mode), coalesce(bool_or(message ~ 'rewrites public'), false),
		coalesce(bool_or(message ~ 'reads all of|build' AND rule <> 'fk-without-index'), false)
	FROM evmig_guard(statement) WHERE rule NOT IN ('lock-timeout', 'schema-qualified') AND rule !~ '^(data|unknown)-'
$$;

CREATE TABLE guard_truth_case (n serial, statement text);
INSERT INTO guard_truth_case (statement) SELECT format('ALTER TABLE guard_truth ALTER COLUMN %s', trim(t, E'\t')) FROM regexp_split_to_table($$
	v TYPE text
	v TYPE varchar(100)
	v TYPE varchar(49)
	v TYPE varchar
	v TYPE varchar(50)
	v TYPE char(50)
	vn TYPE text
	vn TYPE varchar(10)
	t TYPE varchar
	t TYPE varchar(10)
	t TYPE text COLLATE "C"
	c TYPE text
	c TYPE char(12)
	n TYPE numeric(12,2)
	n TYPE numeric(12,3)
	n TYPE numeric(9,2)
	n TYPE numeric
	nn TYPE numeric(10,2)
	n TYPE numeric(1000,2)
	i TYPE bigint
	i TYPE int
	i TYPE oid
	o TYPE int
	i TYPE text
	i TYPE guard_truth_plain
	i TYPE guard_truth_positive
	dp TYPE int
	b TYPE bigint USING b
	b TYPE bigint USING b::bigint
	b TYPE bigint USING b + 1
	b TYPE bigint USING i
	v TYPE text USING v::text
	v TYPE text USING guard_truth.v
	v TYPE text USING upper(v)
	v TYPE int USING v::int
	ts TYPE timestamptz
	tz TYPE timestamp
	ts TYPE timestamptz USING ts AT TIME ZONE 'UTC'
	ts3 TYPE timestamp(4)
	ts3 TYPE timestamp(2)
	ts3 TYPE timestamp
	ts TYPE timestamp(3)
	ts TYPE timestamp(6)
	ts3 TYPE timestamptz(3)
	ts TYPE date
	d TYPE timestamp
	iv TYPE interval(6)
	iv TYPE interval(2)
	iv0 TYPE interval
	iv TYPE interval day to second
	tm TYPE time(6)
	tm TYPE time(2)
	bt TYPE bit varying(16)
	bt TYPE bit varying
	bt TYPE bit varying(4)
	x TYPE text
	j TYPE jsonb USING j::jsonb
	j TYPE text
	jb TYPE json USING jb::json
	u TYPE text
	e TYPE text
	ca TYPE inet
	ia TYPE bigint[]
	va TYPE text[]
	va TYPE varchar(20)[]
	va TYPE varchar[]
	nm TYPE text
	f TYPE float8
	vchecked TYPE text
	vchecked TYPE varchar(100)
	checked TYPE bigint
	keyed TYPE bigint
	keyed TYPE oid
	vkeyed TYPE text
	vkeyed TYPE varchar(100)
	vkeyed TYPE text COLLATE "C"
	vc TYPE varchar(100)
	vc TYPE varchar(100) COLLATE "C"
	vc TYPE text
	vfirst TYPE varchar(20)
	vfirst TYPE text
	vexpr TYPE text
	vexpr TYPE varchar(100)
	vpred TYPE text
	vpred TYPE varchar(100)
	fk TYPE bigint
	id SET NOT NULL
	proven SET NOT NULL
	half SET NOT NULL
	nodef SET NOT NULL
	checked SET NOT NULL
	nodef DROP NOT NULL
	i SET DEFAULT 3
	i DROP DEFAULT
	i SET STATISTICS 100$$, E'\n') t WHERE t ~ '\S';
INSERT INTO guard_truth_case (statement) SELECT format('ALTER TABLE guard_truth %s', trim(t, E'\t')) FROM regexp_split_to_table($$
	ADD COLUMN z int
	ADD COLUMN z int DEFAULT 1
	ADD COLUMN z int DEFAULT NULL
	ADD COLUMN z int NOT NULL DEFAULT 1
	ADD COLUMN z timestamptz DEFAULT now()
	ADD COLUMN z timestamptz DEFAULT CURRENT_TIMESTAMP
	ADD COLUMN z timestamptz DEFAULT clock_timestamp()
	ADD COLUMN z timestamp DEFAULT (now() AT TIME ZONE 'UTC')
	ADD COLUMN z timestamptz DEFAULT 'now'
	ADD COLUMN z uuid DEFAULT gen_random_uuid()
	ADD COLUMN z float8 DEFAULT random()
	ADD COLUMN z int DEFAULT random()
	ADD COLUMN z text DEFAULT gen_random_uuid()::text
	ADD COLUMN z float8 DEFAULT CASE WHEN false THEN random() ELSE 1 END
	ADD COLUMN z float8 DEFAULT coalesce(1, random())
	ADD COLUMN z float8 DEFAULT (ARRAY[1, random()])[1]
	ADD COLUMN z text DEFAULT current_user
	ADD COLUMN z jsonb DEFAULT '{}'
	ADD COLUMN z jsonb DEFAULT jsonb_build_object('a', now())
	ADD COLUMN z int[] DEFAULT '{}'
	ADD COLUMN z int DEFAULT nextval('guard_truth_case_n_seq')
	ADD COLUMN z int DEFAULT guard_truth_volatile_sql()
	ADD COLUMN z int DEFAULT guard_truth_volatile_nested()
	ADD COLUMN z float8 DEFAULT guard_truth_really()
	ADD COLUMN z int DEFAULT guard_truth_table()
	ADD COLUMN z int DEFAULT guard_truth_atomic()
	ADD COLUMN z int DEFAULT guard_truth_pl()
	ADD COLUMN z int DEFAULT guard_truth_stable()
	ADD COLUMN z int DEFAULT guard_truth_args(1)
	ADD COLUMN z float8 DEFAULT guard_truth_args((random() * 10)::int)
	ADD COLUMN z text DEFAULT repeat('x', 10) || now()::text
	ADD COLUMN z guard_truth_plain DEFAULT 1
	ADD COLUMN z guard_truth_plain
	ADD COLUMN z guard_truth_positive
	ADD COLUMN z guard_truth_positive DEFAULT 1
	ADD COLUMN z guard_truth_enum DEFAULT 'a'
	ADD COLUMN z serial
	ADD COLUMN z bigserial
	ADD COLUMN z int GENERATED ALWAYS AS IDENTITY
	ADD COLUMN z int GENERATED BY DEFAULT AS IDENTITY
	ADD COLUMN z int GENERATED ALWAYS AS (i + 1) STORED
	ADD COLUMN z int CHECK (z > 0)
	ADD COLUMN z int UNIQUE
	ADD COLUMN z int REFERENCES guard_truth_other
	ADD COLUMN z int DEFAULT 1 REFERENCES guard_truth_other
	ADD COLUMN IF NOT EXISTS i int DEFAULT random()
	ADD COLUMN y int DEFAULT 2, ADD COLUMN z float8 DEFAULT random()
	DROP COLUMN t
	DROP COLUMN IF EXISTS zz
	ADD CHECK (i > 0)
	ADD CHECK (i > 0) NOT VALID
	ADD UNIQUE (i)
	ADD CONSTRAINT z UNIQUE USING INDEX guard_truth_id
	ADD PRIMARY KEY (id)
	ADD CONSTRAINT z PRIMARY KEY USING INDEX guard_truth_id
	ADD CONSTRAINT z PRIMARY KEY USING INDEX guard_truth_proven
	ADD EXCLUDE (i WITH =)
	ADD FOREIGN KEY (i) REFERENCES guard_truth_other
	ADD FOREIGN KEY (keyed) REFERENCES guard_truth_other
	ADD FOREIGN KEY (keyed) REFERENCES guard_truth_other NOT VALID
	VALIDATE CONSTRAINT half_check
	DROP CONSTRAINT guard_truth_fk_fkey
	DROP CONSTRAINT proves
	DROP CONSTRAINT IF EXISTS zz
	SET UNLOGGED
	SET LOGGED
	SET (fillfactor = 70)
	CLUSTER ON guard_truth_id
	ENABLE TRIGGER ALL
	REPLICA IDENTITY FULL$$, E'\n') t WHERE t ~ '\S';
INSERT INTO guard_truth_case (statement) SELECT trim(t, E'\t') FROM regexp_split_to_table($$
	CREATE INDEX ON guard_truth (i)
	CREATE INDEX IF NOT EXISTS guard_truth_id ON guard_truth (i)
	DROP INDEX guard_truth_id
	REINDEX TABLE guard_truth
	REINDEX INDEX guard_truth_id
	CLUSTER guard_truth USING guard_truth_id
	CREATE TRIGGER z BEFORE INSERT ON guard_truth FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
	ALTER TABLE guard_truth RENAME COLUMN i TO z
	TRUNCATE guard_truth
	ALTER DOMAIN guard_truth_plain ADD CHECK (VALUE > 0)
	ALTER DOMAIN guard_truth_plain ADD CHECK (VALUE > 0) NOT VALID
	DROP TABLE guard_truth_other CASCADE
	UPDATE guard_truth SET i = 1
	DELETE FROM guard_truth$$, E'\n') t WHERE t ~ '\S';

CREATE TABLE guard_truth_all AS
	SELECT n, statement, rules, did.rewritten, did.scanned AND NOT did.rewritten AS scanned, did.lock,
		said.rewritten AS said_rewritten, said.scanned AND NOT said.rewritten AS said_scanned, said.lock AS said_lock
	FROM guard_truth_case, guard_truth_did(statement) did, guard_truth_said(statement) said;

-- what costs something, and by which rules
\pset format unaligned
SELECT replace(statement, 'ALTER TABLE guard_truth ', '') AS statement, concat_ws(' ', CASE WHEN rewritten THEN 'rewrite' END, CASE WHEN scanned THEN 'scan' END) AS cost, rules
FROM guard_truth_all WHERE rewritten OR scanned OR rules <> '' ORDER BY n;

-- where guard and server differ: not at all
SELECT * FROM guard_truth_all
WHERE rewritten <> said_rewritten AND statement NOT LIKE 'TRUNCATE%'
	OR scanned <> said_scanned AND statement LIKE 'ALTER TABLE%' AND rules <> '' OR scanned AND rules = '' AND statement NOT LIKE '%VALIDATE%'
	OR lock <> said_lock;
SELECT count(*) FROM guard_truth_case;

DROP TABLE guard_truth_all, guard_truth, guard_truth_other, guard_truth_case;
DROP DOMAIN guard_truth_positive, guard_truth_plain;
DROP TYPE guard_truth_enum;
DROP FUNCTION guard_truth_volatile_nested, guard_truth_volatile_sql, guard_truth_really, guard_truth_table, guard_truth_atomic,
	guard_truth_pl, guard_truth_stable, guard_truth_args, guard_truth_did, guard_truth_said;
