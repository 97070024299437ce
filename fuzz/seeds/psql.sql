\set x 'a'
SELECT :x, :'x', :"x", :{?x} \gexec
\if true
COPY t FROM stdin;
1	2
\.
\endif
