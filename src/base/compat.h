/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the supported major versions of the server.
 *
 * The only file that looks at PG_VERSION_NUM.  Include it right behind
 * postgres.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_COMPAT_H
#define EVMIG_COMPAT_H

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "evmig supports PostgreSQL 15 to 18"
#endif

/*
 * Since 16 a library exports what is marked, as the Makefile asks for on 15,
 * too; there the macro marks only half of it.
 */
#if PG_VERSION_NUM < 160000
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname) \
extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_,funcname)(void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_,funcname)(void) \
{ \
	static const Pg_finfo_record my_finfo = { 1 }; \
	return &my_finfo; \
} \
extern int no_such_variable
extern PGDLLEXPORT void _PG_init(void);
#endif

/* 16 took these macros out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16 renamed the relfilenode fields that name a file */
#if PG_VERSION_NUM >= 160000
#define compat_relfilenumber(rel) ((Oid) (rel)->rd_locator.relNumber)
#else
#define compat_relfilenumber(rel) ((Oid) (rel)->rd_node.relNode)
#endif

/* 16 replaced the acl checks of each object type by one */
#if PG_VERSION_NUM >= 160000
#define compat_database_aclcheck(db, role, mode) \
	object_aclcheck(DatabaseRelationId, (db), (role), (mode))
#define compat_namespace_aclcheck(nsp, role, mode) \
	object_aclcheck(NamespaceRelationId, (nsp), (role), (mode))
#else
#define compat_database_aclcheck(db, role, mode) \
	pg_database_aclcheck((db), (role), (mode))
#define compat_namespace_aclcheck(nsp, role, mode) \
	pg_namespace_aclcheck((nsp), (role), (mode))
#endif

/* 18 dropped PortalRun's run_once */
#if PG_VERSION_NUM >= 180000
#define compat_PortalRun(portal, count, top, dest, alt, qc) \
	PortalRun((portal), (count), (top), (dest), (alt), (qc))
#else
#define compat_PortalRun(portal, count, top, dest, alt, qc) \
	PortalRun((portal), (count), (top), true, (dest), (alt), (qc))
#endif

/* 18 has NOT NULL constraints that are not valid; desc is a relation's own */
#if PG_VERSION_NUM >= 180000
#define compat_notnull(desc, i) \
	(TupleDescAttr((desc), (i))->attnotnull && \
	 TupleDescCompactAttr((desc), (i))->attnullability == ATTNULLABLE_VALID)
#else
#define compat_notnull(desc, i) (TupleDescAttr((desc), (i))->attnotnull)
#endif

/* 18 made RETURNING a clause with options */
#if PG_VERSION_NUM >= 180000
#define compat_update_returning(stmt) ((stmt)->returningClause != NULL)
#else
#define compat_update_returning(stmt) ((stmt)->returningList != NIL)
#endif

/* 18 has generated columns that are not stored */
#if PG_VERSION_NUM >= 180000
#define compat_generated_virtual(constraint) \
	((constraint)->generated_kind == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define compat_generated_virtual(constraint) (false)
#endif

/* 16 gave soft errors to many input functions */
#if PG_VERSION_NUM >= 160000
#define compat_stringToQualifiedNameList(s) stringToQualifiedNameList((s), NULL)
#else
#define compat_stringToQualifiedNameList(s) stringToQualifiedNameList(s)
#endif

/* 18 counts index searches, and can log failed lock attempts */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#define compat_LockAcquireExtended(tag, mode, nowait, memory_error) \
	LockAcquireExtended((tag), (mode), false, (nowait), (memory_error), NULL, false)
#else
#define compat_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#define compat_LockAcquireExtended(tag, mode, nowait, memory_error) \
	LockAcquireExtended((tag), (mode), false, (nowait), (memory_error), NULL)
#endif

/* 16 counts the partitions of an index to be built */
#if PG_VERSION_NUM >= 160000
#define compat_DefineIndex(relid, stmt, index, parent, constraint, alter, rights, in_use, skip, quiet) \
	DefineIndex((relid), (stmt), (index), (parent), (constraint), -1, (alter), (rights), (in_use), (skip), (quiet))
#else
#define compat_DefineIndex(relid, stmt, index, parent, constraint, alter, rights, in_use, skip, quiet) \
	DefineIndex((relid), (stmt), (index), (parent), (constraint), (alter), (rights), (in_use), (skip), (quiet))
#endif

/* 17 numbers processes where backends were numbered before */
#if PG_VERSION_NUM >= 170000
#include "storage/procarray.h"
#define compat_vxid_proc(vxid) ProcNumberGetProc((vxid)->procNumber)
#define compat_proc_lxid(proc) ((proc)->vxid.lxid)
#else
#include "storage/sinvaladt.h"
#define compat_vxid_proc(vxid) BackendIdGetProc((vxid)->backendId)
#define compat_proc_lxid(proc) ((proc)->lxid)
#endif

/* 16 keeps what belongs to settings in a memory context of its own */
#if PG_VERSION_NUM >= 160000
#define compat_guc_malloc(size) guc_malloc(LOG, (size))
#else
#define compat_guc_malloc(size) malloc(size)
#endif

/* 18 dropped the executor's execute_once; a hook's parameters, and how it passes them on */
#if PG_VERSION_NUM >= 180000
#define COMPAT_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define COMPAT_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define COMPAT_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define COMPAT_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

/* 17 can change the expression of a generated column */
#if PG_VERSION_NUM >= 170000
#define COMPAT_AT_SET_EXPRESSION AT_SetExpression
#else
#define COMPAT_AT_SET_EXPRESSION (-1)
#endif

/* 18 put the attribute before the declaration */
#if PG_VERSION_NUM >= 180000
#define compat_noreturn pg_noreturn
#else
#define compat_noreturn pg_attribute_noreturn()
#endif

/* 17 can ask for a stronger lock, too */
#if PG_VERSION_NUM >= 170000
#define compat_lock_held_by_me(locktag, mode) LockHeldByMe(locktag, mode, false)
#else
#define compat_lock_held_by_me(locktag, mode) LockHeldByMe(locktag, mode)
#endif

/*
 * Rows that this session has written to a relation, as far as it has not
 * reported them to the statistics yet; 16 adds up the open subtransactions and
 * returns a copy.  inserted: of them.
 */
#include "pgstat.h"

static inline int64
compat_rows_written(Oid relid, int64 *inserted)
{
	PgStat_TableStatus *entry = find_tabstat_entry(relid);
	int64		others;

	*inserted = 0;
	if (entry == NULL)
		return 0;
#if PG_VERSION_NUM >= 160000
	*inserted = entry->counts.tuples_inserted;
	others = entry->counts.tuples_updated + entry->counts.tuples_deleted;
	pfree(entry);
#else
	*inserted = entry->t_counts.t_tuples_inserted;
	others = entry->t_counts.t_tuples_updated + entry->t_counts.t_tuples_deleted;
	for (PgStat_TableXactStatus *trans = entry->trans; trans != NULL; trans = trans->upper)
	{
		*inserted += trans->tuples_inserted;
		others += trans->tuples_updated + trans->tuples_deleted;
	}
#endif
	return *inserted + others;
}

/* its header, libpq/libpq.h, needs those of the server's build libraries */
extern bool pq_check_connection(void);
#define compat_check_connection() pq_check_connection()

/* a hint to the processor, and only that */
#if defined(__GNUC__)
#define compat_prefetch(address) __builtin_prefetch(address)
#else
#define compat_prefetch(address) ((void) 0)
#endif

#endif							/* EVMIG_COMPAT_H */
