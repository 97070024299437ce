MERGE INTO leads l USING staging s ON s.phone = l.phone
WHEN MATCHED THEN UPDATE SET status = s.status
WHEN NOT MATCHED THEN INSERT (tenant_id, phone) VALUES (s.tenant_id, s.phone);
