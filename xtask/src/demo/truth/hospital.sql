-- What has to come of a hospital: `fact` (module, period, name, value), from its own tables.
--
-- In: period (module, period, first_day, last_day), known (system, code, fate), standing, people

CREATE TEMP TABLE spell AS
SELECT a.SpellId AS spell, s.person, substr(a.DischargedAt, 1, 7) AS month, substr(a.AdmittedAt, 1, 10) AS admitted,
       CASE WHEN s.standing IS NULL THEN 'rows-without-patient'
            WHEN s.standing <> 'seen' THEN 'rows-withheld'
            WHEN a.IsDeleted THEN 'rows-deleted' ELSE 'crosses' END AS fate
FROM Apc_Spell AS a LEFT JOIN standing AS s ON s.patient = a.HospitalId
WHERE a.DischargedAt <> '';

CREATE TEMP TABLE coding AS
SELECT s.person, s.month, s.admitted, c.Position AS position, CASE WHEN s.fate = 'crosses' AND c.IsDeleted THEN 'rows-deleted'
            WHEN s.fate = 'crosses' THEN k.fate ELSE s.fate END AS fate
FROM Apc_Coding AS c JOIN spell AS s ON s.spell = c.SpellId JOIN known AS k ON k.system = c.CodeSystem AND k.code = c.Code;

CREATE TEMP TABLE input_row AS
SELECT module, period, fate, count(*) AS rows FROM spell JOIN period ON period = month GROUP BY 1, 2, 3
UNION ALL
SELECT module, period, fate, count(*) FROM coding JOIN period ON period = month GROUP BY 1, 2, 3;

-- An admission before 1895, or after the period, takes its codes along.
CREATE TEMP TABLE output_row AS
SELECT module, period, 'sent episodes' AS output, person FROM spell JOIN period ON period = month
WHERE fate = 'crosses' AND admitted BETWEEN '1895-01-01' AND last_day
UNION ALL
SELECT module, period, 'sent episode-codes', person FROM coding JOIN period ON period = month
WHERE fate = 'crosses' AND admitted BETWEEN '1895-01-01' AND last_day AND position BETWEEN 0 AND 1000;

CREATE TEMP TABLE fact AS
SELECT module, period, name, value FROM people, period
UNION ALL SELECT module, period, 'rows-read', sum(rows) FROM input_row GROUP BY 1, 2
UNION ALL SELECT module, period, fate, sum(rows) FROM input_row WHERE fate <> 'crosses' GROUP BY 1, 2, 3
UNION ALL SELECT module, period, output, count(*) FROM output_row GROUP BY 1, 2, 3
UNION ALL SELECT module, period, 'tokens', count(DISTINCT person) FROM output_row GROUP BY 1, 2;
