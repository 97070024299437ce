SELECT 1
\copy t from x csv
SELECT 2 {% if a %}