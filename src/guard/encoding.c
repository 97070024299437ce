/*-------------------------------------------------------------------------
 *
 * encoding.c
 *	  Sources that come as bytes: files, which may hold anything.
 *
 * They are taken for UTF-8, as psql and CI do.  A NUL is replaced by a space,
 * any other byte that is no text by a question mark, so positions hold where
 * server and file have one encoding.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/encoding.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

/* what was wrong with the bytes */
typedef struct BadBytes
{
	int			nuls;
	int			invalid;
	int			first;			/* offset of the first bad byte */
} BadBytes;

/* Copy bytes as valid UTF-8 (or, in SQL_ASCII, as they are) without NULs. */
static char *
clean(const char *bytes, int len, int encoding, BadBytes *bad)
{
	char	   *text = palloc_extended((Size) len + 1, MCXT_ALLOC_HUGE);
	int			at = 0;

	memcpy(text, bytes, len);
	text[len] = '\0';
	while (at < len)
	{
		int			valid = pg_encoding_verifymbstr(encoding, text + at, len - at);

		at += valid;
		if (at >= len)
			break;
		if (bad->nuls++ + bad->invalid == 0)
			bad->first = at;
		if (text[at] == '\0')
		{
			text[at++] = ' ';
			continue;
		}
		bad->nuls--;
		bad->invalid++;
		text[at++] = '?';
		CHECK_FOR_INTERRUPTS();
	}
	return text;
}

/*
 * To the server's encoding; what it does not have becomes a question mark.
 */
static char *
to_server(char *text, int *len)
{
	Oid			proc;
	Size		size = (Size) *len * MAX_CONVERSION_GROWTH + 1;
	char	   *result;
	int			from = 0;
	int			to = 0;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return text;
	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(proc))
		return text;
	result = palloc_extended(size, MCXT_ALLOC_HUGE);
	while (from < *len)
	{
		int			part = Min(*len - from, 1000000);
		int			done;

		part = pg_encoding_mbcliplen(PG_UTF8, text + from, *len - from, part);
		done = pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(),
											 (unsigned char *) text + from, part,
											 (unsigned char *) result + to, size - to, true);
		to += strlen(result + to);
		from += done;
		if (done < part)
		{
			from += pg_encoding_mblen(PG_UTF8, text + from);
			result[to++] = '?';
		}
		CHECK_FOR_INTERRUPTS();
	}
	result[to] = '\0';
	*len = to;
	return result;
}

static void
report_bad(Guard *guard, const BadBytes *bad)
{
	int			n = bad->nuls + bad->invalid;

	guard_statement(guard, bad->first, 0);
	if (bad->invalid == 0)
		guard_report(guard, "invalid-encoding", bad->first, NULL, NULL,
					 "the source has %d NUL byte%s", n, n == 1 ? "" : "s");
	else
		guard_report(guard, "invalid-encoding", bad->first, NULL, NULL,
					 "the source has %d byte%s that %s not valid UTF-8",
					 n, n == 1 ? "" : "s", n == 1 ? "is" : "are");
}

Guard *
guard_inspect_bytes(const bytea *bytes, const char *name, const char *lang)
{
	const char *data = VARDATA_ANY(bytes);
	int			len = VARSIZE_ANY_EXHDR(bytes);
	int			encoding = GetDatabaseEncoding() == PG_SQL_ASCII ? PG_SQL_ASCII : PG_UTF8;
	BadBytes	bad = {0};
	char	   *text;
	Guard	   *guard;

	if (len >= 2 && (memcmp(data, "\xFF\xFE", 2) == 0 || memcmp(data, "\xFE\xFF", 2) == 0))
	{
		guard = guard_begin("", 0, name);
		guard_report(guard, "invalid-encoding", 0, NULL, NULL,
					 "the source is UTF-16, and was not inspected");
		return guard;
	}
	text = clean(data, len, encoding, &bad);
	text = to_server(text, &len);
	bad.first = Min(bad.first, len);
	guard = guard_begin(text, len, name);
	if (bad.nuls + bad.invalid > 0)
		report_bad(guard, &bad);
	guard_run(guard, lang);
	return guard;
}
