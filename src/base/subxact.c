/*-------------------------------------------------------------------------
 *
 * subxact.c
 *	  Work in a subtransaction, whose error leaves the transaction usable.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/subxact.h"

static ErrorData *
run(void (*work) (void *arg), void *arg, bool keep)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		work(arg);
		if (keep)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error || !keep)
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

ErrorData *
subxact_try(void (*work) (void *arg), void *arg)
{
	return run(work, arg, true);
}

ErrorData *
subxact_probe(void (*work) (void *arg), void *arg)
{
	return run(work, arg, false);
}

ErrorData *
subxact_try_or_warn(void (*work) (void *arg), void *arg, const char *what)
{
	ErrorData  *error = subxact_try(work, arg);

	if (error == NULL)
		return NULL;
	if (is_cancel(error))
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("%s: %s", what, error->message),
			 error->detail ? errdetail("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
	return error;
}

bool
is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}
