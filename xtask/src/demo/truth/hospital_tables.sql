-- A hospital's own tables under the names that objections.sql and persons.sql ask for.

CREATE TEMP TABLE registration AS
SELECT HospitalId AS patient, NhsNumber AS nhs_number, TestPatient = 'Y' AS test, Restricted = 'Y' AS sensitive
FROM Pas_Patient WHERE IsDeleted = 0;

CREATE TEMP VIEW consent AS
SELECT HospitalId AS patient, CodeSystem AS system, Code AS code, EffectiveDate AS effective, IsDeleted AS deleted
FROM Pas_Consent;

CREATE TEMP VIEW any_code AS SELECT DISTINCT CodeSystem AS system, Code AS code FROM Apc_Coding;

CREATE TEMP VIEW any_month AS
SELECT DISTINCT substr(DischargedAt, 1, 7) AS month FROM Apc_Spell WHERE NOT IsDeleted AND DischargedAt <> '';
