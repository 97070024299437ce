EXPLAIN UPDATE leads SET status = 'new';
EXPLAIN (ANALYZE, COSTS off) UPDATE leads SET status = 'new';
