-- A practice's own tables under the names that objections.sql and persons.sql ask for.

-- Dates of a registration are DD/MM/YYYY; the supplier's text for none is in 1800.
CREATE TEMP TABLE registration AS
SELECT PatientId AS patient, NhsNumber AS nhs_number, PatientKind IN ('test', 'dummy') AS test,
       IsSensitive = 'true' AS sensitive, Sex AS sex,
       substr(DateOfBirth, 7, 4) || '-' || substr(DateOfBirth, 4, 2) AS born_month,
       CASE WHEN DateOfDeath NOT IN ('', '01/01/1800')
            THEN substr(DateOfDeath, 7, 4) || '-' || substr(DateOfDeath, 4, 2) END AS died_month,
       CASE WHEN RegistrationDate NOT IN ('', '01/01/1800')
            THEN substr(RegistrationDate, 7, 4) || '-' || substr(RegistrationDate, 4, 2) || '-' || substr(RegistrationDate, 1, 2)
       END AS came,
       CASE WHEN DeductionDate NOT IN ('', '01/01/1800')
            THEN substr(DeductionDate, 7, 4) || '-' || substr(DeductionDate, 4, 2) || '-' || substr(DeductionDate, 1, 2)
       END AS went
FROM Admin_Patient WHERE IsDeleted = 0;

-- Every entry, whatever kind the supplier says it is, may be about consent.
CREATE TEMP VIEW consent AS
SELECT PatientId AS patient, CodeSystem AS system, Code AS code, EffectiveDate AS effective, IsDeleted AS deleted
FROM CareRecord_Observation;

CREATE TEMP VIEW any_code AS
SELECT DISTINCT CodeSystem AS system, Code AS code FROM CareRecord_Observation
UNION SELECT DISTINCT CodeSystem, Code FROM Prescribing_IssueRecord;

CREATE TEMP VIEW any_month AS
SELECT substr(EnteredDate, 1, 7) AS month FROM CareRecord_Observation WHERE NOT IsDeleted AND NOT IsConfidential
UNION SELECT substr(EnteredDate, 1, 7) FROM Prescribing_IssueRecord WHERE NOT IsDeleted AND NOT IsConfidential;
