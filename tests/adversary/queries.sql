-- Hostile queries, one a line: each is refused, or each count that leaves (n...), and each difference of two,
-- is nobody or at least k persons. LATEST is one value a person of the laboratory's.
SELECT count(*) AS n FROM people p JOIN labs l ON p.id = l.id
SELECT count(*) AS n FROM people p, labs l
SELECT count(*) AS n FROM people p CROSS JOIN labs l
SELECT count(*) AS n FROM people p NATURAL JOIN labs l
SELECT count(*) AS n FROM people p JOIN labs l USING (id)
SELECT count(*) AS n FROM people p FULL JOIN labs l ON p.id = l.id
SELECT count(*) AS n FROM people p RIGHT JOIN labs l ON p.id = l.id
SELECT count(*) AS n FROM people p SEMI JOIN labs l ON p.id = l.id
SELECT count(*) AS n FROM people p ANTI JOIN labs l ON p.id = l.id
SELECT count(*) AS n FROM people p ASOF JOIN labs l ON p.id >= l.id
SELECT count(*) AS n FROM people p POSITIONAL JOIN labs l
SELECT count(*) AS n FROM people p, LATERAL (SELECT value FROM labs WHERE labs.id = p.id) AS l
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.id = l.id AND p.age > 50
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.id = l.id OR p.age = 97
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.id + 1 = l.id
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.age = l.value
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.id <= l.id
LATEST SELECT count(*) AS n FROM people p JOIN l ON true
LATEST SELECT count(*) AS n FROM people p JOIN l ON p.id = p.id
LATEST SELECT count(*) AS n FROM people p LEFT JOIN l ON p.id = l.id
LATEST SELECT count(*) AS n, count(l.id) AS n2 FROM people p LEFT JOIN l ON p.id = l.id
LATEST SELECT count(*) AS n, count(DISTINCT l.id) AS n2 FROM people p LEFT JOIN l ON p.id = l.id
LATEST SELECT count(*) AS n FROM l LEFT JOIN people p ON p.id = l.id WHERE p.id IS NOT NULL
LATEST SELECT sum(coalesce(l.value, 0)) AS s FROM people p LEFT JOIN l ON p.id = l.id
LATEST SELECT count(coalesce(l.value, p.weight)) AS n FROM people p LEFT JOIN l ON p.id = l.id
LATEST SELECT count(*) AS n FROM people p JOIN people q ON p.id = q.id
LATEST SELECT count(*) AS n FROM l JOIN l AS m ON l.id = m.id
WITH a AS (SELECT id, age FROM people), b AS (SELECT id, sex FROM people) SELECT count(*) AS n FROM a JOIN b ON a.id = b.id
SELECT count(*) AS n FROM (SELECT id FROM people WHERE age = 97) AS q
SELECT count(*) AS n FROM (SELECT id FROM people LIMIT 1) AS q
SELECT count(*) AS n FROM (SELECT id FROM people ORDER BY age LIMIT 20) AS q
SELECT count(*) AS n FROM (SELECT DISTINCT id FROM people) AS q
SELECT count(*) AS n FROM (SELECT id FROM people UNION ALL SELECT id FROM people) AS q
SELECT count(*) AS n FROM (SELECT id, age + 1 AS age FROM people) AS q
SELECT q.age, count(*) AS n FROM (SELECT id, age FROM people) AS q GROUP BY q.age
SELECT age, count(*) AS n FROM (SELECT id AS age, age AS id FROM people) AS q GROUP BY age
SELECT sex, count(*) AS n FROM (SELECT age AS sex, sex AS age, id FROM people) AS q GROUP BY sex
SELECT q.x, count(*) AS n FROM (SELECT id, status AS x FROM people) AS q GROUP BY q.x
WITH people AS (SELECT id, weight AS age FROM people) SELECT age, count(*) AS n FROM people GROUP BY age
WITH RECURSIVE a AS (SELECT id FROM people) SELECT count(*) AS n FROM a
WITH a AS MATERIALIZED (SELECT id, age FROM people) SELECT count(*) AS n FROM a
WITH a AS (WITH b AS (SELECT id FROM people) SELECT id FROM b) SELECT count(*) AS n FROM a
WITH a AS (SELECT id, age FROM people), b AS (SELECT id, age AS sex FROM a) SELECT sex, count(*) AS n FROM b GROUP BY sex
WITH l AS (SELECT id, sum(value) AS v FROM labs GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, stddev(value) AS v FROM labs GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, value FROM labs GROUP BY id, value) SELECT avg(value) AS a FROM l
WITH l AS (SELECT test AS id, max(value) AS v FROM labs GROUP BY test) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, max(value) AS v FROM labs GROUP BY id HAVING max(value) > 90) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, max(CASE WHEN value > 90 THEN 100 ELSE 0 END) AS v FROM labs GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, list(value) AS v FROM labs GROUP BY id) SELECT avg(v[1]) AS a FROM l
WITH l AS (SELECT id, max(id) AS v FROM labs GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, max(value) AS v FROM labs WHERE id = 5 GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, max(value) AS v FROM labs WHERE id IS NULL GROUP BY id) SELECT avg(v) AS a FROM l
WITH l AS (SELECT id, avg(value) AS v FROM labs GROUP BY id) SELECT avg(v) AS a, count(*) AS n FROM l
WITH l AS (SELECT id, max(value) AS v FROM labs WHERE value > 85 GROUP BY id) SELECT count(*) AS n FROM l
WITH l AS (SELECT id, max(value) AS v FROM labs GROUP BY id) SELECT max(v) AS a FROM l
SELECT id, count(*) AS n FROM people GROUP BY id
SELECT max(id) AS m FROM people
SELECT count(*) AS n FROM people WHERE id = 1
SELECT count(*) AS n FROM people WHERE id IN (1, 2)
SELECT count(*) AS n FROM people WHERE id IS NOT NULL
SELECT CASE WHEN id = 1 THEN 'a' ELSE 'b' END AS g, count(*) AS n FROM people GROUP BY g
SELECT count(DISTINCT id) AS n FROM people ORDER BY id
SELECT count(DISTINCT "ID") AS n FROM "People" AS "P"
SELECT hidden, count(*) AS n FROM people GROUP BY hidden
SELECT avg(hidden) AS a FROM people
SELECT count(hidden) AS n FROM people
SELECT count(*) AS n FROM people WHERE hidden > 0
SELECT count(*) AS n FROM people WHERE "HIDDEN" > 0
SELECT count(*) AS n FROM people AS hidden WHERE hidden
SELECT people AS x, count(*) AS n FROM people GROUP BY people
SELECT avg(columns('h.*')) AS a FROM people
SELECT min(age) AS m FROM people
SELECT max(sex) AS m FROM people
SELECT arg_max(sex, age) AS m FROM people
SELECT first(sex) AS m FROM people
SELECT any_value(weight) AS m FROM people
SELECT mode(weight) AS m FROM people
SELECT median(weight) AS m FROM people
SELECT quantile_cont(weight, 0.5) AS m FROM people
SELECT list(weight) AS m FROM people
SELECT string_agg(sex, ',') AS m FROM people
SELECT histogram(age) AS m FROM people
SELECT stddev(weight) AS m FROM people
SELECT corr(weight, status) AS m FROM people
SELECT bit_xor(age) AS m FROM people
SELECT product(age) AS m FROM people
SELECT approx_count_distinct(weight) AS n FROM people
SELECT count(DISTINCT weight) AS n FROM people
SELECT count(DISTINCT age) AS n FROM people
SELECT sum(DISTINCT weight) AS s FROM people
SELECT sum(weight ORDER BY age) AS s FROM people
SELECT sum(weight) OVER () AS s FROM people
SELECT row_number() OVER (ORDER BY age) AS n FROM people
SELECT count(*) FILTER (WHERE age = 97) AS n FROM people
SELECT count(*) FILTER (WHERE age <> 97) AS n, count(*) AS n2 FROM people
SELECT count(*) FILTER (WHERE age < 50) AS n, count(*) FILTER (WHERE age < 51) AS n2 FROM people
SELECT count(*) FILTER (WHERE age < 50 OR status = 1) AS n, count(*) FILTER (WHERE age >= 50) AS n2 FROM people
SELECT count(*) AS n FROM people WHERE age > (SELECT avg(age) FROM people)
SELECT count(*) AS n FROM people WHERE EXISTS (SELECT 1 FROM labs)
SELECT count(*) AS n FROM people WHERE age IN (SELECT age FROM people)
SELECT count(*) AS n FROM people WHERE age = ANY (SELECT 97)
SELECT count(*) AS n FROM people WHERE age % 97 = 0
SELECT count(*) AS n FROM people WHERE age = status
SELECT count(*) AS n FROM people WHERE abs(age) = 97
SELECT count(*) AS n FROM people WHERE CAST(age AS VARCHAR) = '97'
SELECT count(*) AS n FROM people WHERE age::VARCHAR LIKE '9%'
SELECT count(*) AS n FROM people WHERE town LIKE 'H%'
SELECT count(*) AS n FROM people WHERE town = 'Hamlet'
SELECT count(*) AS n FROM people WHERE town <> 'Hamlet'
SELECT count(*) AS n FROM people WHERE town = 'Bb' COLLATE NOCASE
SELECT count(*) AS n FROM people WHERE lower(town) = 'aa'
SELECT count(*) AS n FROM people WHERE town IS DISTINCT FROM 'Hamlet'
SELECT count(*) AS n FROM people WHERE town IS NULL
SELECT count(*) AS n FROM people WHERE NOT town IS NULL AND NOT town = 'Hamlet'
SELECT count(*) AS n FROM people WHERE (age, status) = (97, 1)
SELECT count(*) AS n FROM people WHERE error('x') IS NULL
SELECT count(*) AS n FROM people WHERE random() < 0.5
SELECT count(*) AS n FROM people WHERE now() > '2020-01-01'
SELECT count(*) AS n FROM people WHERE getenv('PATH') = ''
SELECT count(*) AS n FROM people WHERE age > $1
SELECT count(*) AS n FROM people WHERE age > ?
SELECT count(*) AS n FROM people WHERE CASE WHEN age = 97 THEN status = 1 ELSE true END
SELECT count(*) AS n FROM people WHERE coalesce(town, 'Hamlet') = 'Hamlet'
SELECT count(*) AS n FROM people WHERE smoker
SELECT count(*) AS n FROM people WHERE NOT smoker
SELECT count(*) AS n FROM people WHERE smoker IS TRUE
SELECT count(*) AS n FROM people WHERE age > 1e400
SELECT count(*) AS n FROM people WHERE age > 0x61
SELECT count(*) AS n FROM people WHERE born = '1950-01-01'
SELECT count(*) AS n FROM people WHERE born > DATE '1950-06-01' OR sex = 'f'
SELECT count(*) AS n FROM people TABLESAMPLE 1 ROWS
SELECT town, count(*) AS n FROM people GROUP BY town
SELECT town, count(*) AS n FROM people GROUP BY ROLLUP (town)
SELECT sex, town, count(*) AS n FROM people GROUP BY CUBE (sex, town)
SELECT sex, count(*) AS n FROM people GROUP BY GROUPING SETS ((sex), ())
SELECT sex, count(*) AS n FROM people GROUP BY ALL
SELECT age, count(*) AS n FROM people GROUP BY 1
SELECT age, count(*) AS n FROM people GROUP BY 3
SELECT sex AS age, count(*) AS n FROM people GROUP BY age
SELECT age % 2 AS g, count(*) AS n FROM people GROUP BY g
SELECT lower(town) AS g, count(*) AS n FROM people GROUP BY g
SELECT CASE WHEN age = 97 AND status = 1 THEN 'a' ELSE 'b' END AS g, count(*) AS n FROM people GROUP BY g
SELECT CASE WHEN age > 60 THEN 'a' WHEN age > 40 THEN 'b' END AS g, count(*) AS n FROM people GROUP BY g
SELECT CASE WHEN age > 60 THEN sex ELSE town END AS g, count(*) AS n FROM people GROUP BY g
SELECT CASE sex WHEN 'f' THEN 1 ELSE 2 END AS g, count(*) AS n FROM people GROUP BY g
SELECT born, count(*) AS n FROM people GROUP BY born ORDER BY n DESC LIMIT 1
SELECT sex, count(*) AS n FROM people GROUP BY sex ORDER BY max(wage)
SELECT sex, count(*) AS n FROM people GROUP BY sex ORDER BY sum(weight)
SELECT sex, count(*) AS n FROM people GROUP BY sex HAVING max(wage) > 1399
SELECT sex, count(*) AS n FROM people GROUP BY sex HAVING count(*) FILTER (WHERE age = 97) = 1
SELECT sex, count(*) AS n FROM people GROUP BY sex HAVING sum(status) > 50 LIMIT 1 OFFSET 1
SELECT sex, count(*) AS n FROM people GROUP BY sex QUALIFY row_number() OVER () = 1
SELECT DISTINCT sex FROM people
SELECT DISTINCT ON (sex) sex, count(*) AS n FROM people GROUP BY sex
SELECT sex, count(*) AS n FROM people GROUP BY sex LIMIT 10 PERCENT
SELECT * FROM people
SELECT p.* FROM people p
SELECT weight FROM people
SELECT count(*) AS n, 'x' || sex AS g FROM people GROUP BY sex
SELECT sum(weight) / 0 AS s FROM people
SELECT sum(weight) * sum(weight) AS s, count(*) AS n FROM people
SELECT sum(weight) - sum(wage) AS s FROM people
SELECT sum(weight) AS s, sum(age) AS t FROM people
SELECT avg(CASE WHEN status = 1 THEN weight END) AS s, count(*) AS n FROM people
SELECT avg(CASE WHEN age = 97 THEN weight END) AS s FROM people
SELECT sum(CASE WHEN age = 97 THEN 1000000 ELSE 1 END) AS s FROM people
SELECT sum(CASE WHEN age = 97 THEN 1 END) AS s FROM people
SELECT sum(CASE WHEN status = 1 THEN 1 ELSE 0 END) AS n, sum(CASE WHEN status = 1 THEN 0 ELSE 1 END) AS n2 FROM people
SELECT count(CASE WHEN age = 97 THEN 1 END) AS n FROM people
SELECT count(CASE WHEN smoker THEN 1 ELSE 0 END) AS n FROM people
SELECT sum(rare) + sum(common) AS n FROM people
SELECT sum(smoker) AS n, avg(smoker) AS a FROM people
SELECT min(wage) AS a, max(wage) AS b FROM people
LATEST SELECT max(p.wage) AS a FROM people p JOIN l ON p.id = l.id
SELECT count(*) AS n FROM read_csv('/etc/passwd')
SELECT count(*) AS n FROM '/etc/passwd'
SELECT count(*) AS n FROM main.people
SELECT count(*) AS n FROM information_schema.tables
SELECT count(*) AS n FROM duckdb_settings()
SELECT count(*) AS n FROM (VALUES (1), (2)) AS t(x)
SELECT count(*) AS n FROM unnest([1, 2]) AS t
SELECT count(*) AS n FROM people; SELECT 1
SELECT 1 AS x UNION SELECT 2
FROM people SELECT count(*) AS n
PIVOT people ON sex USING count(*)
SELECT count(*) AS n INTO x FROM people
COPY people TO '/tmp/x'
SELECT (SELECT count(*) FROM people) AS n
SELECT count(*) AS n FROM people AS p(age, id)
SELECT count(*) AS "n; DROP" FROM people
SELECT count(*) AS n FROM people WHERE town = 'x'') OR 1=1 --'
