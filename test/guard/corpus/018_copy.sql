COPY leads (tenant_id, phone) FROM stdin;
1	+1000; UPDATE leads SET phone = 'x';
2	+1001
\.
TRUNCATE staging;
COPY (SELECT * FROM leads) TO STDOUT;
