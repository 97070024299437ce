/*-------------------------------------------------------------------------
 *
 * fingerprint.c
 *	  What makes two findings the same one after an edit.
 *
 * A fingerprint goes by rule, source and the tokens of the statement as the
 * server's lexer sees them.  Comments, spacing and the case of words do not
 * count, in routines' bodies neither; constants do.  Nothing of the catalog
 * goes in, so it is the same in a CI's empty database, on all supported
 * versions and in all encodings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guard/guard.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "parser/scansup.h"
#include "utils/memutils.h"

typedef struct Digest
{
	uint64		hash;
	int			ntokens;
	bool		bodies;			/* DO, CREATE: strings are code, perhaps */
	int			depth;			/* of bodies within bodies */
} Digest;

#define MAX_DEPTH 10			/* deeper ones count as they are written */

static void digest_code(Digest *digest, const char *text);

static void
digest_bytes(Digest *digest, const char *bytes, int len)
{
	digest->hash = hash_bytes_extended((const unsigned char *) bytes, len, digest->hash);
}

/* text of a token, the same in every server encoding */
static void
digest_string(Digest *digest, char kind, const char *text)
{
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	digest_bytes(digest, &kind, 1);
	digest_bytes(digest, utf8, strlen(utf8) + 1);
	if (utf8 != text)
		pfree(utf8);
}

/*
 * What is a keyword differs from version to version, so keywords count as
 * identifiers do.
 */
static bool
digest_token(const GuardToken *token, void *context)
{
	Digest	   *digest = context;

	if (token->code == TOKEN_END)
		return true;
	if (digest->ntokens++ == 0 && token->text)
		digest->bodies = strcmp(token->text, "do") == 0 || strcmp(token->text, "create") == 0;
	if (token->code == TOKEN_ICONST || token->code == TOKEN_PARAM)
	{
		char		number[16];

		snprintf(number, sizeof(number), "%c%d", token->code == TOKEN_PARAM ? 'p' : 'n',
				 token->number);
		digest_bytes(digest, number, strlen(number) + 1);
	}
	else if (token->code == TOKEN_SCONST && digest->bodies)
		digest_code(digest, token->text);
	else if (token->code == TOKEN_SCONST || token->code == TOKEN_USCONST)
		digest_string(digest, 's', token->text);
	else if (token->code == TOKEN_IDENT || token->code == TOKEN_UIDENT ||
			 token->code > TOKEN_NOT_EQUALS)
		digest_string(digest, 'i', token->text);
	else if (token->text)
		digest_string(digest, 'o', token->text);
	else
	{
		unsigned char code[2] = {token->code >> 8, token->code & 0xFF};

		digest_bytes(digest, (char *) code, 2);
	}
	return true;
}

/* words of a text that the lexer refuses, spacing aside */
static void
digest_words(Digest *digest, const char *text)
{
	StringInfoData words;

	initStringInfo(&words);
	for (; *text; text++)
	{
		if (!scanner_isspace(*text))
			appendStringInfoChar(&words, *text);
		else if (words.len > 0 && words.data[words.len - 1] != ' ')
			appendStringInfoChar(&words, ' ');
	}
	digest_string(digest, 'w', words.data);
	pfree(words.data);
}

/* a routine's body, in SQL or in whatever language */
static void
digest_code(Digest *digest, const char *text)
{
	Digest		inner = *digest;

	inner.ntokens = 1;			/* strings in it may be bodies again */
	if (++inner.depth > MAX_DEPTH || !guard_lex(text, digest_token, &inner))
	{
		digest_words(digest, text);
		return;
	}
	digest->hash = inner.hash;
	digest_bytes(digest, "b", 1);
}

static char *
hex(uint64 hash)
{
	return psprintf("%08x%08x", (uint32) (hash >> 32), (uint32) hash);
}

char *
guard_digest(const char *text, int len)
{
	Digest		digest = {0};
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "evmig fingerprint",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	char	   *copy = pnstrdup(text, len);

	if (!guard_lex(copy, digest_token, &digest))
	{
		digest.hash = 0;
		digest_words(&digest, copy);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return hex(digest.hash);
}

/* 16 digits; the tokens are read once a statement */
char *
guard_fingerprint(Guard *guard, const char *rule)
{
	Digest		digest = {0};

	if (guard->statement_digest == NULL)
		guard->statement_digest = guard_digest(guard->source->text + guard->statement_offset,
											   guard->statement_len);
	digest.hash = 0;
	digest_string(&digest, 'r', rule);
	digest_string(&digest, 'f', guard->name ? guard->name : "");
	digest_string(&digest, 'd', guard->statement_digest);
	return hex(digest.hash);
}
