/*-------------------------------------------------------------------------
 *
 * language.c
 *	  Which language a source is written in: by its name, else by its text.
 *
 * SQL unless something speaks for another: a misspelt SQL file must become a
 * finding, not a text without literals.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "guard/text.h"

#define C_LIKE (LANG_SLASH | LANG_CHAR)

static const Language languages[] = {
	{"sql", " sql psql ddl pgsql ", "", LANG_SQL},
	{"python", " py pyi ", "^def \n^from \n^import \n^    def \nself.\n^down_revision\n^class \n    pass\n",
		LANG_HASH | LANG_TRIPLE | LANG_PREFIX},
	{"ruby", " rb rake ru ", "^require '\n < ActiveRecord::\n^  def \n^end\n^  end\n do |\n.each do\n<<~\n",
		LANG_HASH | LANG_MULTILINE | LANG_HEREDOC | LANG_REGEX | LANG_PERCENT | LANG_HASH_BRACE | LANG_COMMAND |
	LANG_BACKTICK | LANG_RAW_SINGLE},
	{"javascript", " js mjs cjs ts mts cts jsx tsx ",
		"^const \n^let \nrequire(\n=> \nexports.\n^export \nawait \nasync \n===\n} from '\n`\n",
	LANG_SLASH | LANG_BACKTICK | LANG_REGEX},
	{"go", " go ", "^package \n^func \n:= \n^import (\nerr != nil\n", LANG_SLASH | LANG_CHAR | LANG_BACKTICK},
	{"php", " php ", "<?php\n$this->\n^use \n=> \n",
		LANG_HASH | LANG_SLASH | LANG_MULTILINE | LANG_HEREDOC3 | LANG_DOT | LANG_DOLLAR | LANG_RAW_SINGLE},
	{"java", " java ", "^public class \n^import java\n^package \n@Override\nnew \n    public void ",
	C_LIKE | LANG_TRIPLE},
	{"kotlin", " kt kts ", "^fun \n    fun \nval \n^import \n^package \noverride fun \n", C_LIKE | LANG_TRIPLE | LANG_DOLLAR},
	{"scala", " scala sc ", "^object \nextends \n  def \nval \n", C_LIKE | LANG_TRIPLE | LANG_PREFIX | LANG_DOLLAR},
	{"groovy", " groovy gradle ", "databaseChangeLog {\nchangeSet(\n", LANG_SLASH | LANG_TRIPLE | LANG_DOLLAR},
	{"c#", " cs fs vb ", "^using \n^namespace \npublic partial class \nmigrationBuilder.\noverride void ",
	C_LIKE | LANG_TRIPLE | LANG_VERBATIM},
	{"rust", " rs ", "^use \nfn \n^pub \nlet mut \n::new(\nasync_trait\n",
	C_LIKE | LANG_MULTILINE | LANG_RUST_RAW},
	{"swift", " swift dart ", "^import Fluent\n    func \nlet \n", LANG_SLASH | LANG_TRIPLE},
	{"elixir", " ex exs ", "^defmodule \nuse Ecto\n  def \n do\n",
	LANG_HASH | LANG_MULTILINE | LANG_TRIPLE | LANG_HASH_BRACE | LANG_PERCENT | LANG_COMMAND},
	{"perl", " pl pm t ", "^use strict\n^my \n->do(\n^sub \n",
		LANG_HASH | LANG_MULTILINE | LANG_HEREDOC | LANG_DOT | LANG_DOLLAR | LANG_PERCENT | LANG_RAW_SINGLE},
	{"shell", " sh bash zsh ksh ", "#!/bin/sh\n#!/bin/bash\n#!/usr/bin/env bash\n^fi\n^psql \nset -e\n^export \n",
		LANG_HASH | LANG_MULTILINE | LANG_HEREDOC | LANG_DOLLAR | LANG_COMMAND | LANG_RAW_SINGLE},
	{"lua", " lua ", "^local \n^function \nthen\n", LANG_DASH},
	{"yaml", " yml yaml ", "^- \n^databaseChangeLog:\n^    - \n^---\n", LANG_YAML},
	{"xml", " xml ", "^<?xml \n<databaseChangeLog\n", LANG_XML},
	{"json", " json ", "^{\n  \"", 0},
	{"text", " txt md toml ini ", "", LANG_HASH | LANG_SLASH | LANG_TRIPLE | LANG_BACKTICK | LANG_PREFIX}
};

/* no language of its own: # and // are both comments */
const Language *
language_default(void)
{
	return &languages[lengthof(languages) - 1];
}

static const Language *
language_by_name(const char *name)
{
	const char *dot = strrchr(name, '.');
	char		wanted[16];
	int			n = 0;

	if (dot == NULL || strchr(dot, '/') != NULL || strlen(dot) > sizeof(wanted) - 3)
		return NULL;
	wanted[n++] = ' ';
	while (*++dot != '\0')
		wanted[n++] = pg_ascii_tolower((unsigned char) *dot);
	wanted[n++] = ' ';
	wanted[n] = '\0';
	for (int i = 0; i < lengthof(languages); i++)
		if (strstr(languages[i].extensions, wanted) != NULL)
			return &languages[i];
	return NULL;
}

/* Does a mark of n bytes occur in the text (at the start of a line for ^)? */
static bool
has_mark(const char *text, int len, const char *mark, int n)
{
	bool		at_start = mark[0] == '^';
	const char *p = text;

	if (at_start)
		mark++, n--;
	while ((p = memchr(p, mark[0], len - (p - text))) != NULL)
	{
		if (len - (p - text) < n)
			return false;
		if (memcmp(p, mark, n) == 0 && (!at_start || p == text || p[-1] == '\n'))
			return true;
		p++;
	}
	return false;
}

/* the language with most of its marks in the first 8 kB; NULL: none has two */
static const Language *
language_by_marks(const char *text, int len)
{
	const Language *best = NULL;
	int			most = 1;

	len = Min(len, 8192);
	for (int i = 0; i < lengthof(languages); i++)
	{
		int			score = 0;

		for (const char *mark = languages[i].marks; *mark != '\0';)
		{
			const char *end = strchr(mark, '\n');
			int			n = end ? end - mark : strlen(mark);

			score += has_mark(text, len, mark, n);
			mark += n + (end != NULL);
		}
		if (score > most)
		{
			most = score;
			best = &languages[i];
		}
	}
	return best;
}

const Language *
language_of(const char *name, const char *text, int len)
{
	const Language *language = name ? language_by_name(name) : NULL;

	if (language == NULL || (language->flags & LANG_SQL))
		language = language_by_marks(text, len);
	return language ? language : language_default();
}

/* words that begin a file of another language, and no statement of any SQL */
static const char sure_words[] = " def class module require require_relative const async export exports defmodule public"
	" func fn pub private interface struct abstract override namespace package ";

/* the same, but other servers' SQL has some of them: USE, say */
static const char other_words[] = " from use using let var my local final function object enum await return ";

/* verbs that a parenthesis may follow at once */
static const char bracket_verbs[] = " select values with explain copy vacuum analyze reindex cluster checkpoint ";

static bool
is_word_of(const char *words, const char *word, int len)
{
	char		padded[24];

	if (len > sizeof(padded) - 3)
		return false;
	padded[0] = padded[len + 1] = ' ';
	memcpy(padded + 1, word, len);
	padded[len + 2] = '\0';
	return strstr(words, padded) != NULL;
}

static bool
is_bracket_verb(const char *word, int len)
{
	char		lower[24];

	if (len >= sizeof(lower))
		return false;
	for (int i = 0; i < len; i++)
		lower[i] = pg_ascii_tolower((unsigned char) word[i]);
	return is_word_of(bracket_verbs, lower, len);
}

/* the first byte from pos on that is neither space nor comment, in whatever language */
static int
skip_comments(const char *text, int len, int pos)
{
	for (;;)
	{
		while (pos < len && isspace((unsigned char) text[pos]))
			pos++;
		if (len - pos >= 2 && ((text[pos] == '-' && text[pos + 1] == '-') ||
							   (text[pos] == '/' && text[pos + 1] == '/') ||
							   (text[pos] == '#' && text[pos + 1] != '>')))
			pos = text_line_end(text, len, pos);
		else if (len - pos >= 2 && text[pos] == '/' && text[pos + 1] == '*')
		{
			const char *end = strstr(text + pos + 2, "*/");

			if (end == NULL)
				return len;
			pos = end + 2 - text;
		}
		else
			return pos;
	}
}

bool
guard_looks_like_text(const char *name, const char *text, int len)
{
	const Language *language = name ? language_by_name(name) : NULL;
	int			pos = 0;
	int			end;

	if (language != NULL)
		return !(language->flags & LANG_SQL);
	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		pos = 3;
	if (len - pos >= 2 && text[pos] == '#' && text[pos + 1] == '!')
		return true;
	pos = skip_comments(text, len, pos);
	if (len - pos >= 3 && (memcmp(text + pos, "\"\"\"", 3) == 0 || memcmp(text + pos, "'''", 3) == 0))
		return true;
	if (len - pos >= 2 && (text[pos] == '<' || text[pos] == '@' || text[pos] == '$' || text[pos] == '[' ||
						   (text[pos] == '{' && text[pos + 1] != '{' && text[pos + 1] != '%') ||
						   (text[pos] == '-' && text[pos + 1] == ' ') ||
						   memcmp(text + pos, "'u", 2) == 0 || memcmp(text + pos, "\"u", 2) == 0))
		return true;			/* markup, an annotation, 'use strict' */

	for (end = pos; end < len && (isalnum((unsigned char) text[end]) || text[end] == '_'); end++)
		;
	if (end == pos || isdigit((unsigned char) text[pos]))
		return false;
	if (text[end] == '.' || text[end] == ':')
		return true;			/* knex.schema, databaseChangeLog: */
	if (text[end] == '(')
		return !is_bracket_verb(text + pos, end - pos);	/* exec_dml(...) */
	if (is_word_of(sure_words, text + pos, end - pos))
		return true;
	if (end - pos == 6 && strncmp(text + pos, "import", 6) == 0)
		return pg_strncasecmp(text + end, " foreign ", 9) != 0 && pg_strncasecmp(text + end, " from ", 6) != 0;
	if (is_word_of(other_words, text + pos, end - pos))
		return language_by_marks(text, len) != NULL;
	while (end < len && (text[end] == ' ' || text[end] == '\t'))
		end++;
	return text[end] == '=' || (text[end] == ':' && text[end + 1] == '=');
}
