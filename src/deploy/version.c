/*-------------------------------------------------------------------------
 *
 * version.c
 *	  The natural order of versions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include <ctype.h>

#include "lib/stringinfo.h"

#include "deploy/deploy.h"

#define MAX_VERSION_LEN 200

static void
check_version(const char *version)
{
	size_t		len = strlen(version);

	if (len == 0 || len > MAX_VERSION_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a version must have 1 to %d bytes", MAX_VERSION_LEN)));
	for (const char *s = version; *s; s++)
		if (iscntrl((unsigned char) *s))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a version must not contain control characters")));
}

/*
 * A run of digits becomes the number of its digits without leading zeros, in
 * three digits of its own, and these digits.  "1.10" is "0011.00210".
 */
char *
version_key(const char *version)
{
	StringInfoData key;
	const char *s = version;

	check_version(version);
	initStringInfo(&key);
	while (*s)
	{
		int			digits;

		if (!isdigit((unsigned char) *s))
		{
			appendStringInfoChar(&key, *s++);
			continue;
		}
		while (*s == '0' && isdigit((unsigned char) s[1]))
			s++;
		digits = strspn(s, "0123456789");
		appendStringInfo(&key, "%03d%.*s", digits, digits, s);
		s += digits;
	}
	return key.data;
}
