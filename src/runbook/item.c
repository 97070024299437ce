/*-------------------------------------------------------------------------
 *
 * item.c
 *	  The questions that a person must attest, as edited by their owners.
 *
 * CREATE EXTENSION writes the questions that we ship; pg_dump writes those
 * that were edited or added.  A restore does both, so a row that comes in
 * takes the place of a shipped one of its name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"

#include "base/spi.h"

#define ATTNUM_NAME 1
#define ATTNUM_SHIPPED 3

PG_FUNCTION_INFO_V1(evmig_runbook_item_edited);

/*
 * Row trigger BEFORE INSERT OR UPDATE on evmig.runbook_item: whatever a person
 * writes is theirs (shipped = false) and so part of a dump.
 */
Datum
evmig_runbook_item_edited(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	int			attnum = ATTNUM_SHIPPED;
	Datum		shipped = BoolGetDatum(false);
	bool		isnull = false;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("evmig.runbook_item_edited() can only be called as a row trigger")));

	desc = RelationGetDescr(trigdata->tg_relation);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		tuple = trigdata->tg_newtuple;
	else
	{
		SqlArgs		args = {0};
		Datum		name;
		bool		noname;

		tuple = trigdata->tg_trigtuple;
		name = heap_getattr(tuple, ATTNUM_NAME, desc, &noname);
		arg_datum(&args, TEXTOID, name, noname);
		spi_begin();
		spi_catalog("DELETE FROM evmig.runbook_item WHERE shipped AND name = $1", &args);
		spi_end();
	}
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, 1, &attnum, &shipped, &isnull));
}
