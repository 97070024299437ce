/*-------------------------------------------------------------------------
 *
 * comment.c
 *	  The comments of a source, and which statement each belongs to.
 *
 * One that announces a backfill is a finding, unless it names a registered
 * one; allow.c reads the exceptions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "miscadmin.h"

#include "base/spi.h"
#include "guard/comment.h"
#include "guard/settings.h"
#include "guard/split.h"

/* see comment.h */
GuardFinding *
guard_report_comment(Guard *guard, const char *rule, const char *comment, int len, int offset,
			   int at, const char *message)
{
	GuardFrame *frame = guard->frame;
	MemoryContext old = MemoryContextSwitchTo(guard->context);
	StringInfoData words;
	GuardFinding *finding;

	initStringInfo(&words);
	for (int i = 0; i < len; i++)
	{
		if (isalnum((unsigned char) comment[i]) || IS_HIGHBIT_SET(comment[i]))
			appendStringInfoChar(&words, pg_ascii_tolower((unsigned char) comment[i]));
		else if (words.len > 0 && words.data[words.len - 1] != ' ')
			appendStringInfoChar(&words, ' ');
	}
	MemoryContextSwitchTo(old);

	guard_statement(guard, offset, len);
	guard->statement_digest = words.data;
	guard->frame = guard->source;
	finding = guard_report(guard, rule, at, NULL, NULL, "%s", message);
	guard->frame = frame;
	return finding;
}

/* ---- words that announce a backfill ---- */

/* runs of spaces, hyphens and comment signs are one space in a phrase */
static const char *const phrases[] = {"backfill", "back fill", "populate existing rows", "data migration"};

static bool
is_gap(char c)
{
	return isspace((unsigned char) c) || c == '-' || c == '*' || c == '#' || c == '/';
}

/* length of a phrase at p, which starts a word; 0: none, or a name such as backfilled_at */
static int
phrase_at(const char *p, const char *end, const char *phrase)
{
	const char *start = p;

	for (; *phrase != '\0'; phrase++)
	{
		if (*phrase == ' ')
		{
			if (p == end || !is_gap(*p))
				return 0;
			while (p < end && is_gap(*p))
				p++;
		}
		else if (p == end || pg_ascii_tolower((unsigned char) *p) != *phrase)
			return 0;
		else
			p++;
	}
	for (const char *rest = p; rest < end && (isalnum((unsigned char) *rest) || *rest == '_'); rest++)
		if (*rest == '_')
			return 0;
	return p - start;
}

/* "no backfill", "without a data migration", "not a backfill" announce none */
static bool
is_denied(const char *comment, const char *p)
{
	static const char *const denials[] = {"no", "not", "non", "never", "without"};

	for (int words = 0; words < 2; words++)
	{
		const char *end;

		while (p > comment && is_gap(p[-1]) && p[-1] != '\n')
			p--;
		end = p;
		while (p > comment && isalpha((unsigned char) p[-1]))
			p--;
		for (int i = 0; i < lengthof(denials); i++)
			if (end - p == strlen(denials[i]) && pg_strncasecmp(p, denials[i], end - p) == 0)
				return true;
		if (!(end - p <= 3))
			return false;		/* only an article may stand in between */
	}
	return false;
}

/* Does p stand behind an evmig:allow on its line?  A reason may name what it excuses. */
static bool
in_reason(const char *comment, const char *p)
{
	for (; p >= comment && *p != '\n'; p--)
		if (*p == 'e' && strncmp(p, ALLOW, strlen(ALLOW)) == 0)
			return true;
	return false;
}

/* the first words that announce a backfill, NULL: none */
static const char *
announcement(const char *comment, int len)
{
	const char *end = comment + len;

	for (const char *p = comment; p < end; p++)
	{
		if (p > comment && (isalnum((unsigned char) p[-1]) || p[-1] == '_'))
			continue;
		for (int i = 0; i < lengthof(phrases); i++)
		{
			if (phrase_at(p, end, phrases[i]) == 0 || is_denied(comment, p))
				continue;
			if (!in_reason(comment, p))
				return p;
			while (p + 1 < end && *p != '\n')
				p++;
			break;
		}
	}
	return NULL;
}

/* does a name stand in the text as words of its own? */
static bool
has_name(const char *text, const char *name)
{
	int			n = strlen(name);

	if (n == 0)
		return false;
	for (const char *p = text; (p = strstr(p, name)) != NULL; p++)
		if ((p == text || !(isalnum((unsigned char) p[-1]) || p[-1] == '_')) &&
			!(isalnum((unsigned char) p[n]) || p[n] == '_'))
			return true;
	return false;
}

/* those of evmig.guard_backfills: a CI's database has none of its own */
static List *
known_names(List *names)
{
	char	   *rest = pstrdup(guard_backfills);
	char	   *name;

	while ((name = strsep(&rest, ",")) != NULL)
	{
		while (isspace((unsigned char) *name))
			name++;
		for (int n = strlen(name); n > 0 && isspace((unsigned char) name[n - 1]); n--)
			name[n - 1] = '\0';
		names = lappend(names, name);
	}
	return names;
}

/* those that the source itself registers: evmig_backfill_register('name' */
static List *
own_names(Guard *guard, List *names)
{
	static const char *const calls[] = {"evmig_backfill_register", "evmig_backfill_replace"};

	for (int i = 0; i < lengthof(calls); i++)
		for (const char *p = guard->source->text; (p = strstr(p, calls[i])) != NULL;)
		{
			StringInfoData name;

			p += strlen(calls[i]);
			if (strncmp(p, "_call", 5) == 0)
				p += 5;
			p += strspn(p, " \t\r\n");
			if (*p != '(')
				continue;
			p++;
			p += strspn(p, " \t\r\n");
			if (*p != '\'')
				continue;
			initStringInfo(&name);
			for (p++; *p != '\0' && (*p != '\'' || *++p == '\''); p++)
				appendStringInfoChar(&name, *p);
			names = lappend(names, name.data);
		}
	return names;
}

static List *
registered_names(List *names)
{
	spi_begin();
	spi_catalog("SELECT name FROM evmig.backfill", NULL);
	for (uint64 row = 0; row < spi_nrows(); row++)
		names = lappend(names, spi_text(row, 0));
	spi_end();
	return names;
}

/* Does a registered backfill's name stand in the comment? */
static bool
names_backfill(Guard *guard, const char *comment, int len)
{
	char	   *text;
	bool		named = false;
	ListCell   *cell;

	if (guard->backfills == NIL)
	{
		MemoryContext old = MemoryContextSwitchTo(guard->context);

		/* the first one keeps the list from being empty */
		guard->backfills = registered_names(own_names(guard, known_names(list_make1(""))));
		MemoryContextSwitchTo(old);
	}
	text = pnstrdup(comment, len);
	foreach(cell, guard->backfills)
	{
		CHECK_FOR_INTERRUPTS();
		if ((named = has_name(text, lfirst(cell))))
			break;
	}
	pfree(text);
	return named;
}

static void
check_announcement(Guard *guard, const char *comment, int len, int offset, int from)
{
	const char *words = announcement(comment, len);
	GuardFinding *finding;

	if (words == NULL || names_backfill(guard, comment, len))
		return;
	finding = guard_report_comment(guard, "backfill-comment", comment, len, offset, offset + (words - comment),
							 "a comment announces a change of data, and names no registered backfill");
	/* evmig:allow on the statement excuses its comments, too */
	if (from >= 0)
		finding->statement_offset = from;
}

/* ---- one comment ---- */

/*
 * Read one comment, or a block of them, that stands at offset of the source
 * and belongs to the statement at [from, to) of it; from -1: to none.
 */
void
guard_comment(Guard *guard, const char *comment, int len, int offset, int from, int to)
{
	const char *end = comment + len;

	for (const char *p = comment; (p = memchr(p, 'e', end - p)) != NULL; p++)
		if (end - p >= strlen(ALLOW) && memcmp(p, ALLOW, strlen(ALLOW)) == 0)
		{
			const char *stop = memchr(p, '\n', end - p);

			guard_allow_read(guard, p, (stop ? stop : end) - p, offset + (p - comment), from, to);
		}
	check_announcement(guard, comment, len, offset, from);
}

/* ---- the comments of SQL ---- */

typedef struct Comment
{
	int			start;
	int			len;
	int			statement;
} Comment;

typedef struct Extent
{
	int			start;
	int			len;
} Extent;

typedef struct Comments
{
	Comment    *comments;
	int			ncomments;
	Extent	   *extents;		/* of statements, by their ordinal */
	int			nextents;
} Comments;

/*
 * Is it worth splitting the text again?  Most files say nothing of all this.
 * Each of the words has a rare letter, which is looked for first: bacK,
 * eXisting, miGration, evmiG:allow.
 */
static bool
may_speak(const char *text, int len)
{
	static const bool rare[256] = {
		['k'] = true, ['K'] = true, ['x'] = true, ['X'] = true, ['g'] = true, ['G'] = true
	};

	for (int i = 2; i < len - 2; i++)
	{
		const char *p = text + i;

		if (rare[(unsigned char) *p] &&
			(pg_strncasecmp(p - 2, "ack", 3) == 0 || pg_strncasecmp(p - 1, "exi", 3) == 0 ||
			 pg_strncasecmp(p - 2, "migra", 5) == 0 || pg_strncasecmp(p - 2, "mig:a", 5) == 0))
			return true;
	}
	return false;
}

static void
collect(const char *text, int len, Comments *all)
{
	Splitter   *splitter = split_begin(text, len);
	Piece		piece;
	int			comments_size = 64;
	int			extents_size = 64;

	all->comments = palloc(sizeof(Comment) * comments_size);
	all->extents = palloc(sizeof(Extent) * extents_size);
	all->ncomments = all->nextents = 0;
	while (split_next(splitter, &piece))
	{
		CHECK_FOR_INTERRUPTS();
		if (piece.kind == PIECE_COMMENT)
		{
			if (all->ncomments == comments_size)
				all->comments = repalloc_huge(all->comments, sizeof(Comment) * (comments_size *= 2));
			all->comments[all->ncomments].start = piece.start;
			all->comments[all->ncomments].len = piece.len;
			all->comments[all->ncomments++].statement = piece.statement;
		}
		else if (piece.kind == PIECE_STATEMENT)
		{
			if (all->nextents == extents_size)
				all->extents = repalloc_huge(all->extents, sizeof(Extent) * (extents_size *= 2));
			all->extents[all->nextents].start = piece.start;
			all->extents[all->nextents++].len = piece.len;
		}
	}
	split_end(splitter);
}

/* Does line comment b go on with a's text: on the next line, nothing between? */
static bool
goes_on(const char *text, const Comment *a, const Comment *b)
{
	int			newlines = 0;

	if (text[a->start] != '-' || text[b->start] != '-' || a->statement != b->statement)
		return false;
	for (int i = a->start + a->len; i < b->start; i++)
	{
		if (!isspace((unsigned char) text[i]))
			return false;
		newlines += text[i] == '\n';
	}
	return newlines <= 1;
}

/* the words of a statement that has a body: DO, CREATE FUNCTION, CREATE PROCEDURE */
static bool
has_body(const char *text, int len)
{
	const char *p = text;
	const char *end = text + len;

	if (len > 3 && pg_strncasecmp(p, "do", 2) == 0 && !isalnum((unsigned char) p[2]) && p[2] != '_')
		return true;
	if (len < 20 || pg_strncasecmp(p, "create", 6) != 0)
		return false;
	for (int words = 0; words < 4 && p < end; words++)
	{
		while (p < end && !isspace((unsigned char) *p))
			p++;
		while (p < end && isspace((unsigned char) *p))
			p++;
		if (end - p > 9 && (pg_strncasecmp(p, "function", 8) == 0 || pg_strncasecmp(p, "procedure", 9) == 0))
			return true;
	}
	return false;
}

/* the first dollar-quoted string of a statement; false: none */
static bool
find_body(const char *text, int len, int *start, int *body_len)
{
	for (int i = 0; i < len; i++)
	{
		int			n = i + 1;

		if (text[i] == '\'')
		{
			for (i++; i < len && text[i] != '\''; i++)
				;
			continue;
		}
		if (text[i] != '$')
			continue;
		while (n < len && (isalnum((unsigned char) text[n]) || text[n] == '_' || IS_HIGHBIT_SET(text[n])))
			n++;
		if (n >= len || text[n] != '$')
			continue;
		n -= i - 1;				/* length of $tag$ */
		*start = i + n;
		for (int j = *start; j + n <= len; j++)
			if (text[j] == '$' && memcmp(text + j, text + i, n) == 0)
			{
				*body_len = j - *start;
				return true;
			}
		return false;
	}
	return false;
}

static int
place(const GuardFrame *frame, int offset)
{
	return frame->base >= 0 ? frame->base + offset : frame->map[offset];
}

static void
read_comments(Guard *guard, const GuardFrame *frame, int base, int len)
{
	const char *text = frame->text + base;
	Comments	all;

	collect(text, len, &all);
	for (int i = 0; i < all.ncomments; i++)
	{
		Comment    *first = &all.comments[i];
		int			end = first->start + first->len;
		int			from = -1;
		int			to = -1;

		while (i + 1 < all.ncomments && goes_on(text, &all.comments[i], &all.comments[i + 1]))
		{
			i++;
			end = all.comments[i].start + all.comments[i].len;
		}
		if (first->statement < all.nextents)
		{
			Extent	   *extent = &all.extents[first->statement];

			from = place(frame, base + extent->start);
			to = place(frame, base + extent->start + extent->len);
		}
		guard_comment(guard, text + first->start, end - first->start,
					  place(frame, base + first->start), from, to);
	}
	for (int i = 0; i < all.nextents; i++)
	{
		Extent	   *extent = &all.extents[i];
		int			start;
		int			body_len;

		if (has_body(text + extent->start, extent->len) &&
			find_body(text + extent->start, extent->len, &start, &body_len) &&
			may_speak(text + extent->start + start, body_len))
			read_comments(guard, frame, base + extent->start + start, body_len);
	}
	pfree(all.comments);
	pfree(all.extents);
}

void
guard_comments(Guard *guard, const GuardFrame *frame)
{
	if (may_speak(frame->text, frame->len))
		read_comments(guard, frame, 0, frame->len);
}
