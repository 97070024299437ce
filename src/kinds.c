/*-------------------------------------------------------------------------
 *
 * kinds.c
 *	  The table of job kinds, which ties the rooms to the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "job/kinds.h"

const JobKind *const job_kinds[] = {
	&backfill_kind,
	&dedupe_kind,
	&drop_index_kind,
	&harden_kind,
	&helper_index_kind,
	&index_drop_kind,
	&request_id_kind,
	&restore_kind,
	&registered_index_kind,
	&undo_kind,
	&unique_index_kind,
	NULL
};

const JobKind *
job_kind(const char *name)
{
	for (int i = 0; job_kinds[i] != NULL; i++)
		if (strcmp(job_kinds[i]->name, name) == 0)
			return job_kinds[i];
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("unknown kind of job: \"%s\"", name),
			 errhint("The library is older than the extension's script; restart the sessions that loaded it.")));
}
