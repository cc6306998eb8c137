-- Who objects, from the coded entries alone.
--
-- In:  run (as_of), registration (patient), consent (patient, system, code, effective, deleted)
-- Out: objector (patient, type), evidence (name, rows)
--
-- Codes and rules are those of the domain, not those of the policy file: exact codes; deleted entries do not count; the
-- latest entry decides and on one day the dissent; a dissent without a date, or in the future, holds; such a withdrawal
-- is none; a date of a month or a year means the day that is worse for disclosure; a withdrawal whose code no primary
-- source confirms is none.

CREATE TEMP TABLE objection_code (system TEXT, code TEXT, name TEXT, type INTEGER, dissent INTEGER, confirmed INTEGER);
INSERT INTO objection_code VALUES
    ('SCT',  '827241000000103', 'snomed 827241000000103', 1, 1, 1),
    ('RCT2', '9Nu0.',           'read2 9Nu0.',            1, 1, 1),
    ('CTV3', 'XaZ89',           'ctv3 XaZ89',             1, 1, 1),
    ('SCT',  '827261000000102', 'snomed 827261000000102', 1, 0, 1),
    ('RCT2', '9Nu1.',           'read2 9Nu1.',            1, 0, 1),
    ('CTV3', 'XaZ8a',           'ctv3 XaZ8a',             1, 0, 0),
    ('CTV3', 'XaZ8A',           'ctv3 XaZ8A',             1, 0, 0),
    ('SCT',  '881561000000100', 'snomed 881561000000100', 2, 1, 1),
    ('RCT2', '9Nu4.',           'read2 9Nu4.',            2, 1, 1),
    ('CTV3', 'XaaVL',           'ctv3 XaaVL',             2, 1, 1),
    ('SCT',  '881581000000109', 'snomed 881581000000109', 2, 0, 0),
    ('RCT2', '9Nu5.',           'read2 9Nu5.',            2, 0, 1),
    ('CTV3', 'XaaVM',           'ctv3 XaaVM',             2, 0, 1);

CREATE TEMP TABLE any_consent_entry AS
WITH
-- Read codes have five bytes: some systems append a term code of two digits, some drop the dots, some do both.
without_term AS (
    SELECT patient, system, effective, deleted,
           CASE WHEN system IN ('RCT2', 'CTV3') AND length(trim(code)) IN (6, 7) AND trim(code) GLOB '*[0-9][0-9]'
                THEN substr(trim(code), 1, length(trim(code)) - 2) ELSE trim(code) END AS code
    FROM consent),
five_bytes AS (
    SELECT patient, system, effective, deleted,
           CASE WHEN system IN ('RCT2', 'CTV3') AND length(code) < 5
                THEN substr(code || '.....', 1, 5) ELSE code END AS code
    FROM without_term),
known AS (
    SELECT patient, name, type, dissent, confirmed, deleted,
           CASE WHEN effective IN ('', '1800-01-01') THEN NULL ELSE substr(effective, 1, 10) END AS day
    FROM five_bytes JOIN objection_code USING (system, code))
SELECT patient, name, type, dissent, confirmed, deleted,
       day || substr('-01-01', length(day) - 3) AS first_day,
       CASE length(day)
           WHEN 4 THEN day || '-12-31'
           WHEN 7 THEN date(day || '-01', '+1 month', '-1 day')
           ELSE day
       END AS last_day
FROM known;

CREATE TEMP TABLE consent_entry AS SELECT * FROM any_consent_entry WHERE NOT deleted;

CREATE TEMP TABLE objector AS
SELECT patient, type FROM consent_entry, run
GROUP BY patient, type
HAVING max(dissent AND coalesce(last_day, '9999') > as_of)
    OR max(last_day) FILTER (WHERE dissent)
       >= coalesce(max(first_day) FILTER (WHERE NOT dissent AND confirmed AND last_day <= as_of), '');

-- Entries by code and year; those without a year, or that may be in the future, apart. Years are thirty at most.
CREATE TEMP TABLE evidence AS
SELECT 'evidence ' || name || ' ' || CASE WHEN last_day <= as_of
           THEN max(substr(first_day, 1, 4) + 0, substr(as_of, 1, 4) - 29) ELSE '-' END AS name, count(*) AS rows
FROM consent_entry, run GROUP BY 1
UNION ALL SELECT 'evidence deleted', count(*) FROM any_consent_entry WHERE deleted
UNION ALL SELECT 'evidence undated', count(*) FROM consent_entry WHERE last_day IS NULL
UNION ALL SELECT 'evidence future-dated', count(*) FROM consent_entry, run WHERE last_day > as_of
UNION ALL SELECT 'evidence not-honoured', count(*) FROM consent_entry WHERE NOT dissent AND NOT confirmed
UNION ALL SELECT 'evidence unknown-patients', count(*) FROM consent_entry
          WHERE patient NOT IN (SELECT patient FROM registration)
UNION ALL SELECT 'evidence ties', count(*) FROM (
    SELECT patient, type FROM consent_entry, run GROUP BY patient, type
    HAVING NOT max(dissent AND coalesce(last_day, '9999') > as_of)
       AND max(last_day) FILTER (WHERE dissent)
           = max(first_day) FILTER (WHERE NOT dissent AND confirmed AND last_day <= as_of));
