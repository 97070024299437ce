/*-------------------------------------------------------------------------
 *
 * target.c
 *	  Fuzz target: the splitter, and the scanners of other languages.
 *
 * Besides what the sanitizers see: pieces lie within the text and follow each
 * other, everything ends, and each byte of a literal has a place in the source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fuzz.h"
#include "guard/split.h"
#include "guard/text.h"

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

/* the languages whose scanners differ, by the names of files */
static const char *const names[] = {
	"a.py", "a.rb", "a.js", "a.go", "a.php", "a.java", "a.kt", "a.cs", "a.rs", "a.exs", "a.pl", "a.sh", "a.txt"
};

static void
fuzz_split(const char *text, int len, bool flat)
{
	Splitter   *splitter = split_begin(text, len);
	Piece		piece;
	int			statement_end = 0;
	int			pieces = 0;

	if (flat)
		split_flat(splitter);
	while (split_next(splitter, &piece))
	{
		CHECK(++pieces <= 2 * len + 2);
		CHECK(piece.start >= 0 && piece.len >= 0 && piece.start <= len - piece.len);
		if (piece.kind == PIECE_STATEMENT)
		{
			CHECK(piece.len > 0 && piece.start >= statement_end);
			statement_end = piece.start + piece.len;
		}
		for (int i = 0; i < piece.nholes; i++)
		{
			const Hole *hole = &piece.holes[i];

			CHECK(hole->start >= piece.start && hole->len > 0 &&
				  hole->start + hole->len <= piece.start + piece.len);
		}
	}
}

static void
fuzz_scanner(const char *name, const char *text, int len)
{
	Scanner		scanner;
	TextToken	token;
	int			at = 0;

	text_scanner_init(&scanner, language_of(name, text, len), text, len);
	do
	{
		text_scanner_next(&scanner, &token);
		CHECK(token.start >= at && token.end >= token.start && token.end <= len);
		CHECK(token.kind == TEXT_END || token.end > token.start);
		at = token.end;
		if (token.kind == TEXT_STRING)
			for (int i = 0; i < scanner.string.text.len; i++)
				CHECK(scanner.string.map[i] >= 0 && scanner.string.map[i] <= len);
	} while (token.kind != TEXT_END);
}

static void
check_value(void *arg, TextBuffer *value, int offset, bool sql)
{
	int			len = *(int *) arg;

	CHECK(offset >= 0 && offset <= len);
	for (int i = 0; i < value->text.len; i++)
		CHECK(value->map[i] >= 0 && value->map[i] <= len);
}

static void
check_place(void *arg, int start, int end)
{
	CHECK(start >= 0 && start <= end && end <= *(int *) arg);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text;
	int			len = (int) size;

	if (size > 100000)
		return 0;
	/* a buffer of its own, so that one byte too far is seen; the server's texts hold no NUL */
	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t i = 0; i < size; i++)
		if (text[i] == '\0')
			text[i] = ' ';

	fuzz_split(text, len, false);
	fuzz_split(text, len, true);
	for (int i = 0; i < lengthof(names); i++)
		fuzz_scanner(names[i], text, len);
	text_scan_yaml(text, len, check_value, check_place, &len);
	text_scan_xml(text, len, check_value, check_place, check_place, &len);
	(void) guard_looks_like_text(NULL, text, len);

	fuzz_forget();
	free(text);
	return 0;
}
