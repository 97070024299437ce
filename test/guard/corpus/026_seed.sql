INSERT INTO settings (key, value) VALUES ('dialer.max_lines', '30');
