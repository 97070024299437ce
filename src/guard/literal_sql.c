/*-------------------------------------------------------------------------
 *
 * literal_sql.c
 *	  Is a literal of another language SQL?  If so, the guard reads it.
 *
 * It is when it begins with a verb of SQL and the server's parser accepts it,
 * if need be with its placeholders (%s, {name}, :name, ?) taken for
 * identifiers.  Words that prose begins with as well ("close modal") count
 * only in capitals, or where a call executes them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "utils/varlena.h"

#include "guard/literal_sql.h"
#include "guard/settings.h"

/* ---- calls ---- */

typedef struct CallName
{
	const char *name;
	const char *qualifiers;		/* " op conn "; NULL: any, or none */
	CallKind	kind;
} CallName;

static const CallName call_names[] = {
	{"execute", NULL, CALL_EXECUTE},
	{"executemany", NULL, CALL_EXECUTE},
	{"executescript", NULL, CALL_EXECUTE},
	{"execute_sql", NULL, CALL_EXECUTE},
	{"executeSql", NULL, CALL_EXECUTE},
	{"executeUpdate", NULL, CALL_EXECUTE},
	{"executeQuery", NULL, CALL_EXECUTE},
	{"executeStatement", NULL, CALL_EXECUTE},
	{"exec_driver_sql", NULL, CALL_EXECUTE},
	{"exec_query", NULL, CALL_EXECUTE},
	{"exec_update", NULL, CALL_EXECUTE},
	{"exec_insert", NULL, CALL_EXECUTE},
	{"exec_delete", NULL, CALL_EXECUTE},
	{"run_sql", NULL, CALL_EXECUTE},
	{"RunSQL", NULL, CALL_EXECUTE},
	{"addSql", NULL, CALL_EXECUTE},
	{"Sql", " migrationBuilder ", CALL_EXECUTE},
	{"sql", " pgm ", CALL_EXECUTE},
	{"raw", " knex trx schema ", CALL_EXECUTE},
	{"query", " queryRunner sequelize client pool conn connection ", CALL_EXECUTE},
	{"Exec", " db tx conn pool ", CALL_EXECUTE},
	{"unprepared", " DB ", CALL_EXECUTE},
	{"delete", " DB ", CALL_EXECUTE},
	{"insert", " DB ", CALL_EXECUTE},
	{"statement", " DB ", CALL_EXECUTE},
	{"update", " DB ", CALL_EXECUTE},
	{"psql", NULL, CALL_EXECUTE},

	{"text", NULL, CALL_WRAPS},
	{"dedent", NULL, CALL_WRAPS},
	{"raw", NULL, CALL_WRAPS},
	{"sql", NULL, CALL_WRAPS},
	{"SQL", NULL, CALL_WRAPS},
	{"trim", NULL, CALL_WRAPS},

	/* data changes of the well-known object mappers */
	{"bulk_insert", NULL, CALL_DATA},
	{"bulk_create", NULL, CALL_DATA},
	{"bulk_update", NULL, CALL_DATA},
	{"bulkInsert", NULL, CALL_DATA},
	{"bulkUpdate", NULL, CALL_DATA},
	{"bulkDelete", NULL, CALL_DATA},
	{"bulkCreate", NULL, CALL_DATA},
	{"update_all", NULL, CALL_DATA},
	{"delete_all", NULL, CALL_DATA},
	{"destroy_all", NULL, CALL_DATA},
	{"insert_all", NULL, CALL_DATA},
	{"upsert_all", NULL, CALL_DATA},
	{"find_or_create_by", NULL, CALL_DATA},
	{"create", " objects ", CALL_DATA},
	{"get_or_create", NULL, CALL_DATA},
	{"update_or_create", NULL, CALL_DATA},
	{"batchInsert", NULL, CALL_DATA},
	{"firstOrCreate", NULL, CALL_DATA},
	{"insertGetId", NULL, CALL_DATA},
	{"insertOrIgnore", NULL, CALL_DATA},
	{"updateOrCreate", NULL, CALL_DATA},
	{"updateOrInsert", NULL, CALL_DATA},
	{"DeleteData", " migrationBuilder ", CALL_DATA},
	{"InsertData", " migrationBuilder ", CALL_DATA},
	{"UpdateData", " migrationBuilder ", CALL_DATA}
};

static bool
among(const char *list, const char *word, int len)
{
	char		padded[NAMEDATALEN + 3];

	if (len == 0 || len > NAMEDATALEN)
		return false;
	snprintf(padded, sizeof(padded), " %.*s ", len, word);
	return strstr(list, padded) != NULL;
}

/* Is it one of evmig.guard_dml_functions, whatever its schema? */
static bool
is_dml_function(const char *name)
{
	char	   *copy;
	List	   *list;
	ListCell   *cell;
	bool		found = false;

	if (strstr(guard_dml_functions, name) == NULL)
		return false;
	copy = pstrdup(guard_dml_functions);
	if (SplitIdentifierString(copy, ',', &list))
		foreach(cell, list)
		{
			const char *listed = lfirst(cell);
			const char *dot = strrchr(listed, '.');

			found |= strcmp(dot ? dot + 1 : listed, name) == 0;
		}
	return found;
}

CallKind
literal_call(Guard *guard, const char *name, int name_len, const char *qualifier,
			 int qualifier_len, int offset)
{
	char	   *called = pnstrdup(name, name_len);
	CallKind	kind = CALL_NONE;

	if (is_dml_function(called))
		kind = CALL_DATA;
	for (int i = 0; kind == CALL_NONE && i < lengthof(call_names); i++)
		if (strcmp(call_names[i].name, called) == 0 &&
			(call_names[i].qualifiers == NULL || among(call_names[i].qualifiers, qualifier, qualifier_len)))
			kind = call_names[i].kind;
	if (kind == CALL_DATA)
	{
		guard_statement(guard, offset, name_len);
		guard_report(guard, "data-helper", offset, NULL, NULL, "%s() changes data", called);
	}
	pfree(called);
	return kind;
}

void
literal_opaque(Guard *guard, int offset, int end)
{
	guard_statement(guard, offset, Max(end - offset, 0));
	guard_report(guard, "dynamic-sql", offset, NULL, NULL,
				 "the SQL that is executed here is put together at run time and could not be inspected");
}

/* ---- is it SQL? ---- */

typedef enum Verb
{
	VERB_NONE,
	VERB_STRONG,				/* what follows it tells SQL from prose */
	VERB_WEAK					/* prose parses too: only in capitals */
} Verb;

static Verb
verb_of(const char *word, int len)
{
	static const char strong[] = " select with insert update delete merge create alter drop grant revoke"
		" reindex refresh do comment ";
	static const char weak[] = " truncate copy call lock vacuum analyze cluster begin start commit end rollback abort"
		" savepoint release set reset show table values prepare execute deallocate declare fetch move close listen"
		" notify unlisten load discard checkpoint explain import security reassign ";
	char	   *lower = pnstrdup(word, len);
	Verb		verb;

	for (int i = 0; i < len; i++)
		lower[i] = pg_ascii_tolower((unsigned char) word[i]);
	verb = among(strong, lower, len) ? VERB_STRONG : among(weak, lower, len) ? VERB_WEAK : VERB_NONE;
	pfree(lower);
	return verb;
}

/* "Delete from cart": how a sentence begins, and SQL hardly ever */
static bool
reads_like_prose(const char *word, int len, const char *rest)
{
	if (!isupper((unsigned char) word[0]) || len < 2 || !islower((unsigned char) word[1]))
		return false;
	return strpbrk(rest, "=(;*\n") == NULL;
}

static bool
in_capitals(const char *word, int len)
{
	for (int i = 0; i < len; i++)
		if (!isupper((unsigned char) word[i]))
			return false;
	return true;
}

/* the first word behind spaces, comments and opening parentheses */
static const char *
first_word(const char *text, int *len)
{
	for (;;)
	{
		while (isspace((unsigned char) *text) || *text == '(' || *text == ';')
			text++;
		if (text[0] == '-' && text[1] == '-')
			text += strcspn(text, "\n");
		else if (text[0] == '/' && text[1] == '*' && strstr(text, "*/") != NULL)
			text = strstr(text, "*/") + 2;
		else
			break;
	}
	for (*len = 0; isalpha((unsigned char) text[*len]) || text[*len] == '_'; (*len)++)
		;
	return text;
}

static bool
parses(const char *sql)
{
	List	   *trees;
	GuardSyntaxError error;

	return guard_parse(sql, RAW_PARSE_DEFAULT, &trees, &error) && trees != NIL;
}

/* ---- placeholders ---- */

/* bytes up to what closes a name; names have an end */
static int
name_length(const char *p, char closing)
{
	int			n = 0;

	while (n < 200 && p[n] != '\0' && p[n] != '\n' && p[n] != closing)
		n++;
	return p[n] == '\0' ? n - 1 : n;
}

/* how long the placeholder at p is, 0: there is none */
static int
placeholder(const char *p, const char *start)
{
	int			n = 1;

	if (*p == '?')
		return 1;
	if (*p == ':' && (isalpha((unsigned char) p[1]) || p[1] == '_'))
	{
		if (p > start && (p[-1] == ':' || isalnum((unsigned char) p[-1])))
			return 0;
		while (isalnum((unsigned char) p[n]) || p[n] == '_')
			n++;
		return n;
	}
	if (*p == '%')
	{
		if (p[n] == '(')
			n += name_length(p + n, ')') + 1;
		while (isdigit((unsigned char) p[n]) || p[n] == '$' || p[n] == '.')
			n++;
		return p[n] != '\0' && strchr("sdifrvqI", p[n]) != NULL ? n + 1 : 0;
	}
	if (*p == '{' && (p[1] == '}' || isalnum((unsigned char) p[1]) || p[1] == '_'))
	{
		n += name_length(p + n, '}');
		return p[n] == '}' ? n + 1 : 0;
	}
	return 0;
}

/* does what was written so far end with IN or VALUES, which a list must follow? */
static bool
list_is_due(const StringInfoData *text)
{
	static const char *const words[] = {"in", "values"};
	int			end = text->len;

	while (end > 0 && isspace((unsigned char) text->data[end - 1]))
		end--;
	for (int i = 0; i < lengthof(words); i++)
	{
		int			n = strlen(words[i]);

		if (end > n && pg_strncasecmp(text->data + end - n, words[i], n) == 0 &&
			!isalnum((unsigned char) text->data[end - n - 1]))
			return true;
	}
	return false;
}

/* a copy whose placeholders are identifiers; those inside SQL's own quotes stay */
static TextBuffer *
without_placeholders(TextBuffer *from, bool *any)
{
	TextBuffer *to = palloc(sizeof(TextBuffer));
	const char *text = from->text.data;
	bool		quoted = false;

	text_buffer_init(to);
	*any = false;
	for (int i = 0; i < from->text.len;)
	{
		int			n = quoted ? 0 : placeholder(text + i, text);

		if (n > 0)
		{
			const char *value = list_is_due(&to->text) ? "(" RUN_TIME_VALUE ")" : RUN_TIME_VALUE;

			text_buffer_append(to, value, strlen(value), from->map[i], false);
			*any = true;
			i += n;
			continue;
		}
		if (text[i] == '\'')
			quoted = !quoted;
		/* doubled for a language's own formatting */
		if (text[i] == '%' && text[i + 1] == '%')
			i++;
		text_buffer_byte(to, text[i], from->map[i]);
		i++;
	}
	to->map[to->text.len] = from->map[from->text.len];
	return to;
}

/* ---- SQL that does not parse, but whose words say what it does ---- */

/* the rule for a text that changes data by its first words; NULL: none */
static const char *
rule_by_words(const char *word, int len)
{
	const char *rest = word + len;
	int			second;

	if (!isspace((unsigned char) *rest))
		return NULL;
	(void) first_word(rest, &second);
	rest = first_word(rest, &second);
	if (pg_strncasecmp(word, "update", 6) == 0 && len == 6)
	{
		for (const char *p = rest; *p != '\0'; p++)
			if (isspace((unsigned char) p[0]) && pg_strncasecmp(p + 1, "set", 3) == 0 && isspace((unsigned char) p[4]))
				return "data-update";
		return NULL;
	}
	if (pg_strncasecmp(word, "delete", 6) == 0 && len == 6 && second == 4 && pg_strncasecmp(rest, "from", 4) == 0)
		return "data-delete";
	if (pg_strncasecmp(word, "insert", 6) == 0 && len == 6 && second == 4 && pg_strncasecmp(rest, "into", 4) == 0)
		return strcasestr(rest, "select") ? "data-insert-select" : "data-insert-values";
	if (pg_strncasecmp(word, "merge", 5) == 0 && len == 5 && second == 4 && pg_strncasecmp(rest, "into", 4) == 0)
		return "data-merge";
	return NULL;
}

/* ---- entry ---- */

static void
read_sql(Guard *guard, TextBuffer *buffer, int offset)
{
	GuardFrame	frame = {0};

	frame.text = buffer->text.data;
	frame.len = buffer->text.len;
	frame.base = -1;
	frame.map = buffer->map;
	frame.anchor = offset;
	/* whether and in which order literals are run is not known */
	frame.conditional = true;
	guard_push(guard, &frame);
	guard_sql(guard, &frame);
	guard_comments(guard, &frame);
	guard_pop(guard);
}

/*
 * Findings belong to the literal from here on.  Its fingerprint is that of the
 * SQL in it, however the other language writes it.
 */
static void
begin_literal(Guard *guard, TextBuffer *buffer, int offset)
{
	MemoryContext old = MemoryContextSwitchTo(guard->context);

	guard_statement(guard, offset, Max(buffer->map[buffer->text.len] - offset, 0));
	guard->statement_digest = guard_digest(buffer->text.data, buffer->text.len);
	guard->statements++;
	MemoryContextSwitchTo(old);
}

bool
literal_inspect(Guard *guard, TextBuffer *buffer, int offset, bool executed, bool composed)
{
	int			len;
	const char *word = first_word(buffer->text.data, &len);
	Verb		verb = verb_of(word, len);
	TextBuffer *filled;
	bool		any;
	const char *rule;

	if (verb == VERB_NONE)
	{
		if (!executed)
			return false;
		/* execute("{sql}"): a value of the run alone, or glued to more */
		if (strncmp(word, RUN_TIME_VALUE, strlen(RUN_TIME_VALUE)) == 0)
			literal_opaque(guard, offset, buffer->map[buffer->text.len]);
		/* execute("UPDTE t ..."): the parser says what is wrong; execute("backup") is another matter */
		else if (len > 1 && in_capitals(word, len) && isspace((unsigned char) word[len]))
		{
			begin_literal(guard, buffer, offset);
			read_sql(guard, buffer, offset);
		}
		else
			return false;
		return true;
	}
	if (!executed && (reads_like_prose(word, len, word + len) ||
					  (verb == VERB_WEAK && !in_capitals(word, len))))
		return false;
	begin_literal(guard, buffer, offset);
	if (parses(buffer->text.data))
	{
		read_sql(guard, buffer, offset);
		return true;
	}
	filled = without_placeholders(buffer, &any);
	if (any && parses(filled->text.data))
	{
		read_sql(guard, filled, offset);
		return true;
	}

	composed |= any;
	rule = composed && (executed || in_capitals(word, len)) ? rule_by_words(word, len) : NULL;
	if (rule != NULL)
		guard_report(guard, rule, buffer->map[word - buffer->text.data], NULL, NULL,
					 "data are changed by a statement that is put together at run time");
	else if (executed && composed)
		literal_opaque(guard, offset, buffer->map[buffer->text.len]);
	else if (executed)
		read_sql(guard, buffer, offset);	/* says what the parser says */
	else
		return false;
	return true;
}
