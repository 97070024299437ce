/*-------------------------------------------------------------------------
 *
 * latch.c
 *	  Waiting for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "utils/snapmgr.h"

#include "base/latch.h"

void
latch_pause(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The server looks for a lost client only when it sends. */
void
notice_lost_client(void)
{
	if (whereToSendOutput == DestRemote && !compat_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
	}
}

void
latch_pause_bare(long ms)
{
	InvalidateCatalogSnapshotConditionally();
	latch_pause(ms);
	notice_lost_client();
	CHECK_FOR_INTERRUPTS();
}
