-- What has to come of a practice: `fact` (module, period, name, value), from its own tables.
--
-- In: period (module, period, first_day, last_day), known (system, code, fate), listed (system, code, list),
--     standing, registration, people

-- What becomes of every entry and issue.
CREATE TEMP TABLE entry AS
SELECT o.PatientId AS patient, s.person, substr(o.EnteredDate, 1, 10) AS recorded, o.CodeSystem AS system, o.Code AS code,
       CASE WHEN o.EffectiveDate NOT IN ('', '1800-01-01') THEN
           substr(o.EffectiveDate, 1, 10) || substr('-01-01', min(length(o.EffectiveDate), 10) - 3) END AS effective,
       CASE WHEN s.standing IS NULL THEN 'rows-without-patient'
            WHEN s.standing <> 'seen' THEN 'rows-withheld'
            WHEN o.IsDeleted THEN 'rows-deleted' WHEN o.IsConfidential THEN 'rows-confidential' ELSE k.fate END AS fate
FROM CareRecord_Observation AS o JOIN known AS k ON k.system = o.CodeSystem AND k.code = o.Code
LEFT JOIN standing AS s ON s.patient = o.PatientId;

CREATE TEMP TABLE issue AS
SELECT i.PatientId AS patient, s.person, substr(i.EnteredDate, 1, 10) AS recorded,
       CASE WHEN s.standing IS NULL THEN 'rows-without-patient'
            WHEN s.standing <> 'seen' THEN 'rows-withheld'
            WHEN i.IsDeleted THEN 'rows-deleted' WHEN i.IsConfidential THEN 'rows-confidential' ELSE k.fate END AS fate
FROM Prescribing_IssueRecord AS i JOIN known AS k ON k.system = i.CodeSystem AND k.code = i.Code
LEFT JOIN standing AS s ON s.patient = i.PatientId;

CREATE TEMP TABLE patient AS
SELECT r.*, s.person, CASE s.standing WHEN 'seen' THEN 'crosses' ELSE 'rows-withheld' END AS fate
FROM registration AS r JOIN standing AS s USING (patient);

-- One registration a person: the one that is current at the end of the period, else the one that ended last, else one to come.
-- Of equals the one that began last; of those the last by sex, birth and death, which is what else the figures depend on.
CREATE TEMP TABLE one_each AS
SELECT * FROM (
    SELECT p.module, p.period, r.*, row_number() OVER (
        PARTITION BY p.module, p.period, r.person
        ORDER BY coalesce(r.came, '') <= p.last_day DESC, min(coalesce(r.went, '9999'), p.last_day) DESC, coalesce(r.came, '') DESC,
                 r.sex DESC, r.born_month DESC, coalesce(r.died_month, '') DESC) AS choice
    FROM patient AS r, period AS p)
WHERE choice = 1;

-- The rows that a module's inputs are made of: which period, and what became of the row.
CREATE TEMP TABLE input_row AS
SELECT module, period, 'events' AS output, fate, count(*) AS rows
FROM entry JOIN period ON period = substr(recorded, 1, 7) WHERE module = 'gp-monthly' GROUP BY 1, 2, 4
UNION ALL
SELECT module, period, 'prescriptions', fate, count(*)
FROM issue JOIN period ON period = substr(recorded, 1, 7) WHERE module = 'gp-monthly' GROUP BY 1, 2, 4
UNION ALL
SELECT module, period, NULL, fate, count(*) FROM patient, period GROUP BY 1, 2, 4
UNION ALL
-- Diagnoses: everything recorded so far.
SELECT module, period, NULL, fate, count(*)
FROM entry JOIN period ON recorded <= last_day WHERE module = 'diabetes-register' GROUP BY 1, 2, 4
UNION ALL
-- Measurements: the fifteen months that end with the period.
SELECT module, period, NULL, fate, count(*)
FROM entry JOIN period ON effective BETWEEN date(first_day, '-14 months') AND last_day
WHERE module = 'diabetes-register' GROUP BY 1, 2, 4;

-- The monthly extract's patients: registered in the period, with a row that crossed in it.
CREATE TEMP TABLE active AS
SELECT period, person FROM entry JOIN period ON period = substr(recorded, 1, 7)
WHERE module = 'gp-monthly' AND fate = 'crosses'
UNION
SELECT period, person FROM issue JOIN period ON period = substr(recorded, 1, 7)
WHERE module = 'gp-monthly' AND fate = 'crosses';

CREATE TEMP TABLE extracted AS
SELECT p.period, count(*) AS rows
FROM period AS p JOIN active AS a USING (period) JOIN one_each AS r USING (module, period, person)
WHERE p.module = 'gp-monthly' AND coalesce(r.came, '') <= p.last_day AND coalesce(r.went, '9999') >= p.first_day
  AND r.born_month BETWEEN '1895-01' AND p.period
GROUP BY p.period;

-- The diabetes register: diagnosed, not declared free of it on a later day, registered and alive at the end.
CREATE TEMP TABLE diagnosis AS
SELECT p.period, e.person,
       max(CASE WHEN e.effective <= p.last_day THEN e.effective ELSE e.recorded END) FILTER (WHERE k.list = 'diabetes')
           AS diagnosed,
       max(CASE WHEN e.effective <= p.last_day THEN e.effective ELSE e.recorded END)
           FILTER (WHERE k.list = 'diabetes-resolved') AS resolved
FROM entry AS e JOIN listed AS k USING (system, code) JOIN period AS p ON e.recorded <= p.last_day
WHERE p.module = 'diabetes-register' AND e.fate = 'crosses' GROUP BY 1, 2;

CREATE TEMP TABLE diabetic AS
SELECT p.period, d.person, r.sex,
       min((substr(p.period, 1, 4) - substr(r.born_month, 1, 4) - (substr(p.period, 6) < substr(r.born_month, 6))) / 10, 9)
           AS band
FROM diagnosis AS d JOIN period AS p ON p.module = 'diabetes-register' AND p.period = d.period
JOIN one_each AS r ON r.module = p.module AND r.period = p.period AND r.person = d.person
WHERE d.diagnosed >= coalesce(d.resolved, '') AND coalesce(r.came, '') <= p.last_day
  AND coalesce(r.went, '9999') >= p.last_day AND coalesce(r.died_month, '9999') > p.period;

-- Cells of fewer than five are not sent. With so many cells, and those that are sent rounded, no other has to be hidden for them.
CREATE TEMP TABLE cell AS SELECT period, sex, band, count(*) AS patients FROM diabetic GROUP BY 1, 2, 3;

CREATE TEMP TABLE fact AS
SELECT module, period, name, value FROM people, period
UNION ALL SELECT module, period, 'rows-read', sum(rows) FROM input_row GROUP BY 1, 2
UNION ALL SELECT module, period, fate, sum(rows) FROM input_row WHERE fate <> 'crosses' GROUP BY 1, 2, 3
UNION ALL SELECT module, period, 'sent ' || output, rows FROM input_row WHERE fate = 'crosses' AND output IS NOT NULL
UNION ALL SELECT 'gp-monthly', period, 'sent patients', rows FROM extracted
UNION ALL SELECT 'gp-monthly', period, 'tokens', count(*) FROM active GROUP BY 2
UNION ALL SELECT 'diabetes-register', period, 'sent register', count(*) FROM diabetic GROUP BY 2
UNION ALL SELECT 'diabetes-register', period, 'tokens', count(DISTINCT person) FROM diabetic GROUP BY 2
UNION ALL SELECT 'diabetes-register', period, 'sent counts', sum(patients >= 5) FROM cell GROUP BY 2
-- Of four sexes and ten bands of age.
UNION ALL SELECT p.module, p.period, 'cells-suppressed', 40 - coalesce(sum(patients >= 5), 0)
          FROM period AS p LEFT JOIN cell AS c USING (period) WHERE p.module = 'diabetes-register' GROUP BY 2;
