-- dbt-like
ALTER TABLE {{ schema }}.leads ADD COLUMN d int;
UPDATE {{ schema }}.leads SET d = {{ default_d }};
