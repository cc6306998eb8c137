-- Who is who, and whom a module may see.
--
-- In:  registration (patient, nhs_number, test, sensitive), objector (patient, type)
-- Out: person (person, standing, type_2, valid), registered (patient, person, standing): one row a registration
--
-- Registrations with the same valid NHS number are one person; what is true of one of them is true of the person.

CREATE TEMP TABLE registered AS
WITH
digits AS (
    SELECT patient, test, sensitive, replace(replace(coalesce(nhs_number, ''), ' ', ''), '-', '') AS n FROM registration),
-- Modulus 11 with weights 10 down to 2; a remainder that would need the digit 10 is no digit, so it fits none.
checked AS (
    SELECT *,
           length(n) = 10 AND n NOT GLOB '*[^0-9]*' AND n <> replace('0000000000', '0', substr(n, 1, 1))
           AND substr(n, 10, 1) = CAST(
               (11 - (10 * substr(n, 1, 1) + 9 * substr(n, 2, 1) + 8 * substr(n, 3, 1) + 7 * substr(n, 4, 1)
                    + 6 * substr(n, 5, 1) + 5 * substr(n, 6, 1) + 4 * substr(n, 7, 1) + 3 * substr(n, 8, 1)
                    + 2 * substr(n, 9, 1)) % 11) % 11 AS TEXT) AS valid
    FROM digits)
SELECT patient, test, sensitive, valid, CASE WHEN valid THEN 'number ' || n ELSE 'local ' || patient END AS person
FROM checked;

CREATE TEMP TABLE person AS
WITH of_all AS (
    SELECT person, max(test) AS test, max(sensitive) AS sensitive, max(valid) AS valid,
           max(EXISTS (SELECT 1 FROM objector AS o WHERE o.patient = r.patient AND o.type = 1)) AS type_1,
           max(EXISTS (SELECT 1 FROM objector AS o WHERE o.patient = r.patient AND o.type = 2)) AS type_2
    FROM registered AS r GROUP BY person)
SELECT person, valid, type_2,
       CASE WHEN test THEN 'test' WHEN type_1 THEN 'type 1' WHEN sensitive THEN 'sensitive' ELSE 'seen' END AS standing
FROM of_all;

CREATE TEMP TABLE standing AS
SELECT r.patient, r.person, p.standing FROM registered AS r JOIN person AS p USING (person);
CREATE INDEX temp.standing_patient ON standing (patient);

-- The same in every bundle of a run.
CREATE TEMP TABLE people AS
SELECT 'patients' AS name, count(*) AS value FROM person WHERE standing <> 'test'
UNION ALL SELECT 'withheld-type-1', count(*) FROM person WHERE standing = 'type 1'
UNION ALL SELECT 'withheld-sensitive', count(*) FROM person WHERE standing = 'sensitive'
UNION ALL SELECT 'flagged-type-2', count(*) FROM person WHERE standing = 'seen' AND type_2
UNION ALL SELECT 'test-patients', count(*) FROM person WHERE standing = 'test'
UNION ALL SELECT 'invalid-nhs-numbers', count(*) FROM person WHERE standing <> 'test' AND NOT valid
UNION ALL SELECT name, rows FROM evidence;
