/*-------------------------------------------------------------------------
 *
 * index_definition.h
 *	  What an index is, in the server's own words, so that two definitions can
 *	  be compared as texts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_INDEX_DEFINITION_H
#define EVMIG_INDEX_DEFINITION_H

#include "base/compat.h"
#include "job/job.h"

typedef struct IndexDefinition
{
	Oid			target;
	char	   *name;			/* of the index */
	bool		unique;
	bool		partitioned;	/* so is the table */
	char	   *tail;			/* deparsed, from USING on */
} IndexDefinition;

/*
 * Read a user's CREATE INDEX; the index gets the given name where the text has
 * none.  The server checks it against an empty copy of the table in a
 * subtransaction that is rolled back.  Takes ACCESS SHARE on the table, needs
 * its owner's privileges.  Raises syntax_error unless it is exactly one CREATE
 * INDEX, feature_not_supported for a unique one that a partitioned table cannot
 * have, and what CREATE INDEX raises.
 */
extern IndexDefinition *index_definition_read(const char *text, const char *name);

/* That of an index that is there. */
extern IndexDefinition *index_definition_of(Oid index);

extern bool index_definition_equal(const IndexDefinition *a, const IndexDefinition *b);

/*
 * the statement that makes it; concurrently: CREATE INDEX CONCURRENTLY, on a
 * partitioned table ON ONLY it
 */
extern char *index_definition_text(const IndexDefinition *definition, bool concurrently);

/* As text of a jsonb, and back from the spec of a job on its table; inside a transaction. */
extern char *index_definition_spec(const IndexDefinition *definition);
extern IndexDefinition *index_definition_of_job(Job *job);

/* What is there under its name. */
typedef enum IndexFound
{
	FOUND_NOTHING,
	FOUND_EQUAL,				/* valid */
	FOUND_INVALID,				/* an index of the table that a build left, or is building */
	FOUND_OTHER,				/* a valid index of the table, otherwise defined */
	FOUND_FOREIGN				/* the name is taken by something else */
} IndexFound;
extern IndexFound index_definition_find(const IndexDefinition *definition, Oid *index);

/*
 * index_partition.c: in a job, take the next step towards an index on a
 * partitioned table; false once it is there and valid.
 */
extern bool index_partition_step(Job *job, const IndexDefinition *definition);

/*
 * What an interrupted build has left on a partition, not attached to the index
 * of its parent; false: nothing.  Inside a transaction.
 */
extern bool index_partition_leftover(const IndexDefinition *definition, IndexDefinition *part);

/* index_drop.c: start a job that drops the index, valid or not; returns its id. */
extern int64 index_drop_start(const char *name, Target *target, const IndexDefinition *definition);

#endif							/* EVMIG_INDEX_DEFINITION_H */
