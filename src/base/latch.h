/*-------------------------------------------------------------------------
 *
 * latch.h
 *	  Waiting for a while.
 *
 *-------------------------------------------------------------------------
 */
#ifndef EVMIG_LATCH_H
#define EVMIG_LATCH_H

/* Wait for ms milliseconds, or until somebody sets our latch.  Heeds interrupts. */
extern void latch_pause(long ms);

/*
 * The same between two transactions of a procedure: with no snapshot, or a
 * concurrent build would wait for us for ever, and not for a client who is gone.
 */
extern void latch_pause_bare(long ms);

/* Whoever waits for nobody need not wait: ends this session where its client is gone. */
extern void notice_lost_client(void);

#endif							/* EVMIG_LATCH_H */
