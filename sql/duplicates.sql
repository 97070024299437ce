-- evmig_duplicates: which keys repeat, which row stays, and whether the others differ
CREATE SCHEMA duplicates_test;
SET search_path = duplicates_test, public;
SET timezone = 'UTC';
SET datestyle = 'ISO';

CREATE TABLE business_events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	request_id text,
	ts timestamptz,
	kind text,
	body json,
	twice bigint GENERATED ALWAYS AS (id * 2) STORED,
	big text);
ALTER TABLE business_events ALTER big SET STORAGE EXTERNAL;
INSERT INTO business_events (request_id, ts, kind, body, big) VALUES
	('exact', '2026-01-03', 'call', '{"a": 1}', repeat('x', 5000)),
	('exact', '2026-01-01', 'call', '{"a": 1}', repeat('x', 5000)),
	('exact', '2026-01-02', 'call', '{"a": 1}', repeat('x', 5000)),
	('kind', '2026-01-01', 'call', '{"a": 1}', NULL),
	('kind', '2026-01-02', 'sms', '{"a": 1}', NULL),
	('kind', '2026-01-02', NULL, '{"a": 1}', NULL),
	('kind', '2026-01-02', 'call', '{"a": 1}', NULL),
	('json', '2026-01-01', 'call', '{"a": 1}', NULL),
	('json', '2026-01-02', 'call', '{"a":1}', NULL),
	('toast', '2026-01-01', 'call', NULL, repeat('x', 5000)),
	('toast', '2026-01-02', 'call', NULL, repeat('x', 4999) || 'y'),
	('nulls', NULL, 'call', NULL, NULL),
	('nulls', 'infinity', 'call', NULL, NULL),
	('no time', NULL, 'call', NULL, NULL),
	('no time', NULL, 'call', NULL, NULL),
	('single', '2026-01-01', 'call', NULL, NULL),
	(NULL, '2026-01-01', 'call', NULL, NULL),
	(NULL, '2026-01-01', 'call', NULL, NULL);
SELECT * FROM evmig_duplicates();
SELECT * FROM evmig_duplicates(max_groups => 2);
SELECT * FROM evmig_duplicates('business_events', 'request_id', 'ts', NULL) LIMIT 1;
SELECT * FROM evmig_duplicates(order_column => 'id') LIMIT 2;
SELECT * FROM evmig_duplicates(key_column => 'id');

-- of rows at the same time the first by its place stays
CREATE TABLE ties (request_id int, ts int, note text);
INSERT INTO ties VALUES (1, 5, 'first'), (1, 5, 'second'), (1, 5, 'first'), (1, NULL, 'first');
SELECT * FROM evmig_duplicates('ties');
UPDATE ties SET note = 'first' WHERE note = 'second';
SELECT * FROM evmig_duplicates('ties');

-- nothing but key and order column: nothing can differ
CREATE TABLE narrow (request_id numeric, ts int);
INSERT INTO narrow VALUES (1.0, 2), (1.00, 1), (1, 3);
SELECT * FROM evmig_duplicates('narrow');

-- a dropped column, a key with an index, names
CREATE TABLE "Weird "".table" ("o'x ""é" text, "ts "";" int, gone int, "päy""load" point);
ALTER TABLE "Weird "".table" DROP gone;
CREATE INDEX ON "Weird "".table" ("o'x ""é");
INSERT INTO "Weird "".table" VALUES ('a', 2, '(1,1)'), ('a', 1, '(2,2)'), ('a', 3, '(2,2)');
SELECT * FROM evmig_duplicates('"Weird "".table"', 'o''x "é', 'ts ";');

-- bad input
SELECT * FROM evmig_duplicates(max_groups => 0);
SELECT * FROM evmig_duplicates(order_column => 'created_at');
SELECT * FROM evmig_duplicates(order_column => 'body');
SELECT * FROM evmig_duplicates('narrow', 'nope');

DROP TABLE business_events, ties, narrow, "Weird "".table";
DROP SCHEMA duplicates_test;
