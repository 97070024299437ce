/*-------------------------------------------------------------------------
 *
 * main.c
 *	  Drives a fuzz target where there is no libFuzzer: the seeds as they are,
 *	  then so many mutations of them.
 *
 * Usage: PROGRAM RUNS NUMBER SEED_FILE...; the number begins the sequence.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define MAX_SIZE 8192

typedef struct Input
{
	uint8_t    *data;
	size_t		size;
} Input;

static uint64_t state;

static uint32_t
random_below(uint32_t n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (state >> 33) % n;
}

/* pieces of text that mean something to the scanners */
static const char *const words[] = {
	"'", "\"", "`", "$$", "$a$", ";", "--", "/*", "*/", "\\", "\n", "(", ")", "{", "}", "{{", "}}", "{%", "%}",
	"BEGIN ATOMIC", "CASE", "END", "COPY t FROM STDIN;\n", "\\.\n", "E'", "U&'", "<<~A\n", "A\n", "\"\"\"", "${", "#{",
	":'a'", ":{?a}", "\xEF\xBB\xBF", "\xFF", "#", "//", "%q(", "r#\"", "|\n  ", "<![CDATA[", "]]>", "DO ", "\r\n"
};

static size_t
mutate(uint8_t *data, size_t size)
{
	for (int times = 1 + random_below(6); times > 0; times--)
	{
		size_t		at = random_below(size + 1);
		size_t		n = size > at ? random_below((uint32_t) (size - at)) % 40 : 0;
		const char *word = words[random_below(sizeof(words) / sizeof(words[0]))];

		switch (random_below(4))
		{
			case 0:				/* leave out */
				memmove(data + at, data + at + n, size - at - n);
				size -= n;
				break;
			case 1:				/* one byte */
				if (at < size)
					data[at] = (uint8_t) random_below(256);
				break;
			case 2:				/* twice */
				if (size + n > MAX_SIZE)
					break;
				memmove(data + at + n, data + at, size - at);
				size += n;
				break;
			default:			/* put in */
				n = strlen(word);
				if (size + n > MAX_SIZE)
					break;
				memmove(data + at + n, data + at, size - at);
				memcpy(data + at, word, n);
				size += n;
		}
	}
	return size;
}

static Input
read_seed(const char *name)
{
	Input		input = {malloc(MAX_SIZE), 0};
	FILE	   *file = fopen(name, "rb");

	if (file == NULL || input.data == NULL)
	{
		perror(name);
		exit(2);
	}
	input.size = fread(input.data, 1, MAX_SIZE, file);
	fclose(file);
	return input;
}

int
main(int argc, char **argv)
{
	long		runs = argc > 1 ? atol(argv[1]) : 0;
	int			nseeds = argc - 3;
	Input	   *seeds;
	static uint8_t data[MAX_SIZE];

	if (nseeds < 1)
	{
		fprintf(stderr, "usage: %s RUNS NUMBER SEED_FILE...\n", argv[0]);
		return 2;
	}
	state = strtoull(argv[2], NULL, 10);
	seeds = calloc(nseeds, sizeof(Input));
	for (int i = 0; i < nseeds; i++)
	{
		seeds[i] = read_seed(argv[i + 3]);
		LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
	}
	for (long run = 0; run < runs; run++)
	{
		Input	   *seed = &seeds[random_below(nseeds)];

		memcpy(data, seed->data, seed->size);
		LLVMFuzzerTestOneInput(data, mutate(data, seed->size));
	}
	for (int i = 0; i < nseeds; i++)
		free(seeds[i].data);
	free(seeds);
	printf("%ld runs, %d seeds\n", runs, nseeds);
	return 0;
}
