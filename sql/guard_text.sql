-- Migrations in other languages: which literals are SQL, and where they stand.
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.look(source text, name text DEFAULT 'm.py') RETURNS TABLE (at text, rule text, severity text, relation text)
LANGUAGE sql AS $$
	SELECT line || ':' || col, g.rule, g.severity, g.relation FROM evmig_guard(source, name) g
	WHERE g.rule ~ '^(data-|dynamic|unparsed|backfill|allow|unused)'
$$;

-- quotes of Python
SELECT c.n, l.* FROM (VALUES
	(1, 'x = ''UPDATE t SET a = 1'''),
	(2, 'x = "UPDATE t SET a = ''1''"'),
	(3, E'x = """\n  UPDATE t\n  SET a = "A"\n"""'),
	(4, 'x = ''''''DELETE FROM t WHERE a = ''x'' '''''''),
	(5, 'x = r"UPDATE t SET a = ''\d''"'),
	(6, E'x = ("UPDATE t "\n     "SET a = 1 "\n     ''WHERE b'')'),
	(7, E'x = "SELECT 1;\\n  UPDATE t SET a = 1"'),
	(8, 'x = "UPDATE " + table + " SET a = 1"'),
	(9, 'x = f"UPDATE {table} SET a = {value!r} WHERE b = ''{b}''"'),
	(10, 'x = "UPDATE %s SET a = %%" % t'),
	(11, 'x = "UPDATE t SET a = :a WHERE b IN :bs AND c = %(c)s"'),
	(12, 'x = "INSERT INTO t SELECT a, {} FROM b".format(1)'),
	(13, '# x = "UPDATE t SET a = 1"'),
	(14, E'def f():\n    """UPDATE t SET a = 1"""\n    return "UPDATE"'),
	(15, 'x = "Update the user"; y = "Delete from cart"; z = "close modal"; w = "truncate text"'),
	(16, 'x = ["UPDATE t SET a = 1", "DELETE FROM t"]'),
	(17, E'x = "unterminated\ny = "UPDATE t SET a = 1"'),
	(18, 'x = b"DELETE FROM t"; y = rb"DELETE FROM u"')
) c (n, source), LATERAL pg_temp.look(source) l ORDER BY c.n, l.at;

-- calls that execute
SELECT c.n, l.* FROM (VALUES
	(1, 'op.execute(sql)'),
	(2, 'op.execute(f"{sql}")'),
	(3, 'cursor.execute("UPDATE t SET " + ", ".join(parts))'),
	(4, 'op.execute("truncate t")'),
	(5, 'op.execute(sa.text("DELETE FROM t"))'),
	(6, 'op.execute("UPDTE t SET a = 1")'),
	(7, 'op.execute("UPDATE t SETT a = 1")'),
	(8, 'op.execute(table.update().values(a=1))'),
	(9, 'def execute(self, sql): pass'),
	(10, 'executor.execute()'),
	(11, 'exec_dml("UPDATE t SET a = 1")'),
	(12, 'tools.exec_dml(sql)'),
	(13, 'op.bulk_insert(table, rows)'),
	(14, 'conn.execute("SELECT 1", {"a": "update"})'),
	(15, 'not_exec_dml(1); my_execute(sql)'),
	(16, E'Lead.objects.create(a=1)\nLead.objects.update_or_create(a=1)\nform.create(a=1); objects.create'),
	(17, 'DB.insert(sql); migrationBuilder.InsertData(table: "t"); form.insert(x); other.InsertData(1)')
) c (n, source), LATERAL pg_temp.look(source) l ORDER BY c.n, l.at;

-- other languages
SELECT c.name, l.* FROM (VALUES
	('1.rb', E'execute <<~SQL\n  UPDATE t SET a = #{a}\nSQL\n'),
	('2.rb', E'execute %q(DELETE FROM t WHERE a = ''(x)'')'),
	('3.rb', E'execute sql if x # UPDATE t SET a = 1\n'),
	('4.rb', E'f(<<-A, <<-B)\nUPDATE t SET a = 1\nA\nDELETE FROM t\nB\ng("DELETE FROM u")'),
	('5.js', E'q(`UPDATE t\nSET a = ${a + `"}`}`) // DELETE FROM t'),
	('6.js', E'const re = /it''s/; q("DELETE FROM t")'),
	('7.go', E'db.Exec("DELETE FROM t WHERE a = ''x''")\nx := ''"''\ny := `TRUNCATE t`'),
	('8.php', E'<?php\n$db->query("UPDATE $t SET a = {$x->y}");\n$s = <<<''SQL''\nDELETE FROM t\nSQL;\n$u = ''DELETE FROM '' . $t;'),
	('9.java', E'run("DELETE FROM t "\n  + "WHERE a = 1");'),
	('10.cs', E'Sql(@"UPDATE ""T"" SET a = 1"); Sql($"DELETE FROM {t}");'),
	('11.kt', E'run("UPDATE $t SET a = ${x.y}")'),
	('12.rs', E'let l: &''static str = r#"DELETE FROM "t""#;'),
	('13.exs', E'execute("DELETE FROM t", "")\nexecute(~s(UPDATE t SET a = 1))'),
	('14.pl', E'$dbh->do(q{DELETE FROM t WHERE a = ''{}''});\n$dbh->do("UPDATE $t SET a = 1");'),
	('15.sh', E'psql -c ''TRUNCATE t''\npsql <<EOF\nDELETE FROM $T;\nEOF\n'),
	('16.yaml', E'- sql: UPDATE t SET a = 1 # x\n- sql: |\n    SELECT 1;\n    DELETE FROM t;\n- note: "update"\n'),
	('17.xml', E'<a><sql>UPDATE t SET a = 1 WHERE b &lt; 2</sql><!-- DELETE FROM t --></a>'),
	('17b.xml', E'<changeSet><comment>update</comment>\n<insert tableName="t"><column name="a" value="1"/></insert>\n<update\n schemaName="s" tableName="t"/><delete/><updates tableName="t"/><createTable tableName="delete"/><loadData file="x" tableName="t"/><delete tab'),
	('18.json', E'{"sql": "UPDATE t SET a = \\"b\\""}')
) c (name, source), LATERAL pg_temp.look(source, name) l ORDER BY length(c.name), c.name, l.at;

-- which language: by name, by text, and SQL unless something speaks for another
SELECT c.n, count(*) FILTER (WHERE rule = 'unparsed') AS unparsed, count(*) FILTER (WHERE rule = 'data-update') AS updates
FROM (VALUES
	(1, NULL, E'from alembic import op\n\ndef upgrade():\n    op.execute("UPDATE t SET a = 1")\n'),
	(2, NULL, E'#!/usr/bin/env python3\nrun("UPDATE t SET a = 1")'),
	(3, NULL, E'/* c */ exports.up = (k) => k.raw(''UPDATE t SET a = 1'')'),
	(4, NULL, E'USE shop;\nUPDATE t SET a = 1;'),
	(5, NULL, E'CRAETE TABLE t (a int);\nUPDATE t SET a = 1;'),
	(6, 'V1__x.sql', E'class X:\n  y = "UPDATE t SET a = 1"'),
	(7, NULL, E'-- x\n# y\nUPDATE t SET a = 1;'),
	(8, 'x.py', ''),
	(9, NULL, E'"""docs"""\nx = "UPDATE t SET a = 1"'),
	(10, NULL, E'{{ config }}\nUPDATE t SET a = 1'),
	(11, NULL, E'def upgrade():\n    op.execute(f"UPDATE {t} SET a = 1")'),
	(12, NULL, 'exec("UPDATE t SET a = 1")'),
	(13, NULL, 'SELECT(1); UPDATE t SET a = 1'),
	(14, NULL, E'import foreign schema s from server r into p; UPDATE t SET a = 1'),
	(15, NULL, E'import os\nrun("UPDATE t SET a = 1")'),
	(16, NULL, E'return x; UPDATE t SET a = 1'),
	(17, NULL, E'const sql = `UPDATE t SET a = 1`'),
	(18, NULL, E'explain(analyze) UPDATE t SET a = 1')
) c (n, name, source) LEFT JOIN LATERAL evmig_guard(source, name) g ON true GROUP BY c.n ORDER BY c.n;
SELECT line, col, rule FROM evmig_guard('x := "DELETE FROM t"', lang => 'text');
SELECT line, col, rule FROM evmig_guard('x := "DELETE FROM t"', 'x.py', lang => 'sql');
SELECT * FROM evmig_guard('x', lang => 'cobol');

-- columns count characters, also behind what is not ASCII
SELECT * FROM pg_temp.look('größe = "日本"; x = "🙂"; y = "UPDATE t SET a = 1"');
SELECT * FROM pg_temp.look(E'x = "SELECT ''größe'';\\tDELETE FROM größe"');

-- exceptions and announcements in the language's own comments
SELECT * FROM pg_temp.look($$
# evmig:allow data-update: nine rows
op.execute("UPDATE t SET a = 1")
op.execute("UPDATE t SET a = 2")  # evmig:allow data-update: nine more
op.execute("UPDATE t SET a = 3")
op.execute("""-- evmig:allow data-delete: two rows
  DELETE FROM t""")
# evmig:allow data-delete: nothing
# backfill
$$);

-- long and deep: time and memory are bounded
SELECT count(*) FROM evmig_guard(repeat('(', 200000) || '"DELETE FROM t"', 'deep.py');
SELECT count(*) FROM evmig_guard(repeat('x = "DELETE FROM t WHERE a = 1"' || E'\n', 2000), 'many.py') WHERE rule = 'data-delete';
SELECT count(*) FROM evmig_guard('x = "' || repeat('a', 1000000), 'open.py');
-- beginnings of literals that never end cost no square
SELECT rule, count(*) FROM (VALUES ('a.rb', repeat('<<A ', 100000)), ('b.rb', repeat('%q(', 100000)), ('c.py', repeat('"\', 100000)),
	('d.js', repeat('`${', 100000))) v (name, source), LATERAL evmig_guard(source, name) GROUP BY 1;
