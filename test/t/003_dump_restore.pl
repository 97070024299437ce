# pg_dump and pg_restore of a database in which a runbook was carried out:
# evidence, archive and guard come along, jobs (block numbers mean nothing
# elsewhere) do not, and what was begun there can be rolled back here.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE there OWNER app');
$node->safe_psql('there', q(
CREATE SCHEMA tools;
GRANT USAGE ON SCHEMA tools TO PUBLIC;
CREATE EXTENSION evmig SCHEMA tools;
GRANT ALL ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE business_events (id bigint PRIMARY KEY, request_id uuid, ts timestamptz, payload text);
INSERT INTO business_events
SELECT g, CASE WHEN g % 10 = 0 THEN NULL WHEN g % 20 = 1 THEN md5('k' || (g % 400))::uuid ELSE md5('k' || g)::uuid END, now(), 'x'
FROM generate_series(1, 1000) g;
));

sub execute_runbook
{
	my ($db) = @_;
	my $id = $node->safe_psql($db, q(SET ROLE app; SET search_path = public, tools; SELECT evmig_runbook_open(mode => 'archive')));
	$node->safe_psql($db, qq(SET ROLE app; SET search_path = public, tools;
SELECT evmig_runbook_attest($id, (SELECT jsonb_object_agg(name, 'seen by the test') FROM evmig.runbook_item));
SELECT evmig_runbook_approve($id, 'by the test')));
	$node->safe_psql($db, "SET ROLE app; SET search_path = public, tools; CALL evmig_runbook_execute($id)");
	return $id;
}

my $id = execute_runbook('there');
$node->safe_psql('there', q(
UPDATE evmig.runbook_item SET question = 'a question of our own' WHERE name = (SELECT min(name) FROM evmig.runbook_item);
INSERT INTO evmig.runbook_item (name, question) VALUES ('our_item', 'is lunch ready?');
SELECT tools.evmig_guard_baseline_add('UPDATE leads SET a = 1 WHERE b', 's.sql', 'older than the guard')));

# a deployment
$node->safe_psql('postgres', 'GRANT CREATE ON DATABASE there TO app');
my $as_app = 'SET ROLE app; SET search_path = public, tools';
my @deployment = (
	q(SELECT evmig_migration_register('1.2', 'CREATE TABLE "odd ""one" (a int)'), evmig_migration_register('1.10', 'CREATE TABLE ten (a int)')),
	q(SELECT evmig_index_register('payload', 'CREATE INDEX business_events_payload ON business_events (lower(payload))')),
	q(CALL evmig_deploy(wait_for => 'indexes')),
	q(SELECT evmig_migration_register('1.11', 'CREATE TABLE eleven (a int)')));
$node->safe_psql('there', "$as_app; $_") for @deployment;

my %figures = (
	events => 'SELECT count(*) FROM evmig.runbook_event',
	'chain heads' => "SELECT string_agg(encode(head, 'hex'), ',' ORDER BY runbook_id) FROM evmig.runbook",
	items => "SELECT count(*) || ' ' || string_agg(name || question, ',' ORDER BY name) FROM evmig.runbook_item",
	'grandfathered findings' => q(SELECT string_agg(rule || grandfathered, ',') FROM tools.evmig_guard('UPDATE leads SET a = 1 WHERE b', 's.sql')),
	archives => 'SELECT count(*) FROM evmig.archive a JOIN pg_class c ON c.oid = a.relation',
	'archived rows' => 'SELECT count(*) FROM public.business_events_dupes_archived',
	'key is unique and not null' => q(SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = 'public.business_events'::regclass AND i.indisunique AND i.indisvalid AND a.attname = 'request_id' AND a.attnotnull),
	migrations => q(SELECT string_agg(version || ' ' || state || ' ' || owner || ' ' || checksum, ',' ORDER BY version_key) FROM evmig.migration),
	indexes => q(SELECT name || ' ' || target || ' ' || owner || ' ' || tail FROM evmig.index),
	deployments => q(SELECT count(*) || ' ' || min(deployed_by::text) FROM evmig.deploy JOIN evmig.deploy_item USING (deploy_id)),
	guard => q(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.business_events'::regclass AND tgname ~ 'evmig' AND tgenabled = 'A'),
);
my %before = map { $_ => $node->safe_psql('there', $figures{$_}) } sort keys %figures;
is($before{'key is unique and not null'}, '1', 'the runbook did its work');

my $file = $node->basedir . '/there.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, 'there' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE here');
$node->command_ok([ 'pg_restore', '-e', '-d', 'here', $file ], 'pg_restore, without an error');
is($node->safe_psql('here', $figures{$_}), $before{$_}, "restored: $_") for sort keys %figures;
is($node->safe_psql('here', 'SELECT count(*) FROM evmig.job'), '0', 'jobs are not dumped');
like($node->safe_psql('here', "SELECT tools.evmig_runbook_report($id)"), qr/chain.*(whole|intact|unbroken|ok)/i, 'the chain of events is whole');

# numbers go on behind the dumped ones, and the guard works
my ($rc, undef, $err) = $node->psql('here', qq(SET ROLE app; SET search_path = public, tools;
INSERT INTO business_events (id, ts) VALUES (5000, now())));
is($rc, 0, 'the guard works here') or diag($err);
is($node->safe_psql('here', 'SELECT request_id IS NOT NULL FROM public.business_events WHERE id = 5000'), 't', 'and fills');
is($node->safe_psql('here', 'SET search_path = public, tools; SELECT count(*) FROM evmig_verify() WHERE NOT ok'), '0', 'evmig_verify finds nothing wrong');
my $next = $node->safe_psql('here', q(SET ROLE app; SET search_path = public, tools; SELECT evmig_runbook_open(mode => 'archive')));
cmp_ok($next, '>', $id, 'a new runbook gets a new number');
is($node->safe_psql('here', q(SELECT tools.evmig_guard_baseline_add('DELETE FROM leads WHERE b', 'new.sql', 'one more'))), '1',
	'the baseline takes more entries');

# a deployment goes on where it was
is($node->safe_psql('here', "SELECT status FROM tools.evmig_deploy_report() WHERE item = 'payload'"), 'unknown', 'a job that was not dumped is nobody else\'s');
$node->safe_psql('postgres', 'GRANT CREATE ON DATABASE here TO app');
$node->safe_psql('here', "$as_app; CALL evmig_deploy(wait_for => 'indexes')");
is($node->safe_psql('here', q(SELECT string_agg(item || ' ' || status, ', ' ORDER BY item) FROM tools.evmig_deploy_report() WHERE phase IN ('migrations', 'indexes'))),
	'1.11 applied, payload skipped', 'only what is new is applied');

# what was done there can be undone here
$node->safe_psql('here', "SET ROLE app; SET search_path = public, tools; CALL evmig_runbook_rollback($id)");
is($node->safe_psql('here', 'SELECT count(*) FROM public.business_events'), '1001', 'the removed rows are back');
is($node->safe_psql('here', $figures{'key is unique and not null'}), '0', 'index and NOT NULL are gone');

$node->stop;
done_testing();
