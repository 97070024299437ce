/* what the fuzz targets share */
#ifndef EVMIG_FUZZ_H
#define EVMIG_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's entry point; main.c calls it where there is no libFuzzer */
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* free all that an input has allocated */
extern void fuzz_forget(void);

#endif							/* EVMIG_FUZZ_H */
