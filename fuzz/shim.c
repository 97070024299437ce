/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  What the guard's scanners need of the server, for a fuzzer: memory that
 *	  goes after each input, strings, and an interrupt that never comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "fuzz.h"

volatile sig_atomic_t InterruptPending = false;

static void **blocks;
static size_t nblocks;
static size_t blocks_size;

void
ProcessInterrupts(void)
{
}

static void *
keep(void *block)
{
	if (block == NULL)
		abort();
	if (nblocks == blocks_size)
	{
		blocks_size = blocks_size ? blocks_size * 2 : 64;
		blocks = realloc(blocks, blocks_size * sizeof(void *));
	}
	return blocks[nblocks++] = block;
}

void
fuzz_forget(void)
{
	while (nblocks > 0)
		free(blocks[--nblocks]);
	free(blocks);
	blocks = NULL;
	blocks_size = 0;
}

void *
palloc(Size size)
{
	return keep(malloc(Max(size, 1)));
}

void *
palloc0(Size size)
{
	return keep(calloc(Max(size, 1), 1));
}

void
pfree(void *pointer)
{
	for (size_t i = nblocks; i-- > 0;)
		if (blocks[i] == pointer)
		{
			blocks[i] = blocks[--nblocks];
			free(pointer);
			return;
		}
	abort();					/* freed twice, or never allocated */
}

void *
repalloc(void *pointer, Size size)
{
	for (size_t i = nblocks; i-- > 0;)
		if (blocks[i] == pointer)
			return blocks[i] = realloc(pointer, size);
	abort();
}

void *
repalloc_huge(void *pointer, Size size)
{
	return repalloc(pointer, size);
}

char *
pnstrdup(const char *in, Size len)
{
	char	   *out = palloc(len + 1);

	memcpy(out, in, len);
	out[len] = '\0';
	return out;
}

void
initStringInfo(StringInfo str)
{
	str->maxlen = 64;
	str->data = palloc(str->maxlen);
	resetStringInfo(str);
}

void
resetStringInfo(StringInfo str)
{
	str->data[0] = '\0';
	str->len = str->cursor = 0;
}

void
enlargeStringInfo(StringInfo str, int needed)
{
	while (str->len + needed + 1 > str->maxlen)
	{
		str->maxlen *= 2;
		str->data = repalloc(str->data, str->maxlen);
	}
}

unsigned char
pg_ascii_tolower(unsigned char ch)
{
	return ch >= 'A' && ch <= 'Z' ? ch + 'a' - 'A' : ch;
}

int
pg_strncasecmp(const char *s1, const char *s2, size_t n)
{
	for (; n > 0; s1++, s2++, n--)
	{
		int			c1 = pg_ascii_tolower((unsigned char) *s1);
		int			c2 = pg_ascii_tolower((unsigned char) *s2);

		if (c1 != c2)
			return c1 - c2;
		if (c1 == '\0')
			break;
	}
	return 0;
}
