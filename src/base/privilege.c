/*-------------------------------------------------------------------------
 *
 * privilege.c
 *	  Who may do what, and as whom a piece of work runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "base/privilege.h"
#include "evmig.h"

/*
 * Switch to a role with a pinned search_path.  Must be undone by runas_end()
 * on the normal path; a (sub)transaction abort undoes it too.
 */
void
runas_begin(RunAs *save, Oid role, RunAsKind kind)
{
	runas_begin_path(save, role, kind, "pg_catalog, pg_temp");
}

void
runas_begin_path(RunAs *save, Oid role, RunAsKind kind, const char *path)
{
	GetUserIdAndSecContext(&save->userid, &save->sec_context);
	SetUserIdAndSecContext(role, save->sec_context |
						   (kind == RUNAS_RESTRICTED
							? SECURITY_RESTRICTED_OPERATION
							: SECURITY_LOCAL_USERID_CHANGE));
	save->nest_level = 0;
	if (path == NULL)
		return;
	save->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", path,
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
runas_end(RunAs *save)
{
	if (save->nest_level > 0)
		AtEOXact_GUC(false, save->nest_level);
	SetUserIdAndSecContext(save->userid, save->sec_context);
}

bool
owns_relation(Oid relid)
{
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		owns;

	if (!HeapTupleIsValid(tup))
		return false;
	owns = has_privs_of_role(GetUserId(), ((Form_pg_class) GETSTRUCT(tup))->relowner);
	ReleaseSysCache(tup);
	return owns;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tup = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tup))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tup))->relowner;
	ReleaseSysCache(tup);
	return owner;
}

/*
 * The owner of our tables.  Asked before each of our own statements, so it is
 * answered from the syscaches.
 */
Oid
extension_owner(void)
{
	Oid			nsp = get_namespace_oid(EVMIG_SCHEMA, true);
	Oid			relid = OidIsValid(nsp) ? get_relname_relid("job", nsp) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"evmig\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION evmig.")));
	return relation_owner(relid);
}

Oid
extension_schema(void)
{
	Oid			extoid = get_extension_oid("evmig", false);
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tup;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extoid));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tup = systable_getnext(scan);
	if (HeapTupleIsValid(tup))
		result = ((Form_pg_extension) GETSTRUCT(tup))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

char *
extension_schema_prefix(void)
{
	return psprintf("%s.", quote_identifier(get_namespace_name(extension_schema())));
}

void
require_owner(Oid relid)
{
	Oid			owner = relation_owner(relid);

	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", get_rel_name(relid)),
				 errdetail("The table belongs to role \"%s\".",
						   GetUserNameFromId(owner, false)),
				 errhint("Call it as a member of that role.")));
}

static bool
role_can_login(Oid role)
{
	HeapTuple	tup = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can = false;

	if (HeapTupleIsValid(tup))
	{
		can = ((Form_pg_authid) GETSTRUCT(tup))->rolcanlogin;
		ReleaseSysCache(tup);
	}
	return can &&
		compat_database_aclcheck(MyDatabaseId, role, ACL_CONNECT) == ACLCHECK_OK;
}

Oid
require_all_rows(Oid relid, Oid role)
{
	if (check_enable_rls(relid, role, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row level security hides rows of table %s from role \"%s\"",
						get_rel_name(relid), GetUserNameFromId(role, false)),
				 errdetail("The job would run as this role and leave out what it cannot see."),
				 errhint("ALTER TABLE ... NO FORCE ROW LEVEL SECURITY for the owner, or give the role BYPASSRLS.")));
	return role;
}

Oid
job_role(Oid relid)
{
	Oid			owner = relation_owner(relid);
	Oid			user = GetUserId();

	require_owner(relid);
	if (role_can_login(owner))
		return require_all_rows(relid, owner);
	if (!superuser_arg(user) && role_can_login(user))
		return require_all_rows(relid, user);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("no role to run the job on table %s as", get_rel_name(relid)),
			 errdetail("The table's owner \"%s\" cannot log in to this database, and a superuser's rights are not used on somebody else's table.",
					   GetUserNameFromId(owner, false)),
			 errhint("Call it as a member of that role that can log in.")));
}

void
require_writable(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("this server is a standby"),
				 errhint("Call it on the primary.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("this transaction is read-only"),
				 errhint("Set transaction_read_only (or default_transaction_read_only) to off.")));
}
