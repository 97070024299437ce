SELECT setval('leads_lead_id_seq', 100000);
REFRESH MATERIALIZED VIEW CONCURRENTLY leads_by_tenant;
