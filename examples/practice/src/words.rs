//! Names, streets and towns to invent people from.

/// Forenames of women and girls.
pub const FORENAMES_F: &[&str] = &[
    "Amelia", "Olivia", "Isla", "Ava", "Mia", "Ivy", "Lily", "Grace", "Freya", "Florence", "Margaret", "Susan",
    "Patricia", "Jean", "Christine", "Linda", "Karen", "Julie", "Deborah", "Tracey", "Nicola", "Sarah", "Claire",
    "Emma", "Rebecca", "Gemma", "Chloe", "Priya", "Fatima", "Ayesha", "Zainab", "Ngozi", "Agnieszka", "Mei",
    "Sinead", "Megan", "Bronwen", "Dorothy", "Joan", "Edna",
];

/// Forenames of men and boys.
pub const FORENAMES_M: &[&str] = &[
    "Oliver", "George", "Noah", "Arthur", "Harry", "Leo", "Jack", "Charlie", "Oscar", "Henry", "John", "David",
    "Michael", "Peter", "Robert", "Alan", "Stephen", "Paul", "Mark", "Andrew", "Christopher", "James", "Daniel",
    "Matthew", "Ryan", "Liam", "Connor", "Mohammed", "Imran", "Ravi", "Chidi", "Piotr", "Wei", "Dylan", "Rhys",
    "Eoin", "Ronald", "Kenneth", "Derek", "Stanley",
];

/// Surnames.
pub const SURNAMES: &[&str] = &[
    "Smith", "Jones", "Williams", "Taylor", "Davies", "Brown", "Wilson", "Evans", "Thomas", "Johnson", "Roberts",
    "Walker", "Wright", "Robinson", "Thompson", "White", "Hughes", "Edwards", "Green", "Hall", "Wood", "Harris",
    "Lewis", "Martin", "Jackson", "Clarke", "Clark", "Turner", "Hill", "Scott", "Cooper", "Morris", "Ward", "Moore",
    "King", "Watson", "Baker", "Harrison", "Morgan", "Patel", "Young", "Allen", "Mitchell", "James", "Anderson",
    "Phillips", "Lee", "Bell", "Parker", "Davis", "Khan", "Hussain", "Ahmed", "Begum", "Singh", "Kaur", "Okafor",
    "Adeyemi", "Nowak", "Kowalska", "Chen", "O'Brien", "Murphy", "Llewellyn", "Featherstonehaugh", "Smith-Jones",
];

/// Streets.
pub const STREETS: &[&str] = &[
    "High Street", "Station Road", "Church Lane", "Mill Lane", "Victoria Road", "Green Lane", "Manor Road",
    "Park Avenue", "Queens Road", "Kings Road", "The Crescent", "Orchard Close", "Chapel Street", "Windsor Drive",
    "Meadow View", "School Lane", "Albert Terrace", "Springfield Road", "North Street", "Bridge Street",
];

/// Towns that are on no map, with postcode areas that Royal Mail has not allocated.
pub const TOWNS: &[(&str, &str)] = &[
    ("Emberwick", "EM"), ("Fallowmere", "FL"), ("Greywater", "GW"), ("Hawkstead", "HK"), ("Larkhampton", "LK"),
    ("Netherbeck", "NK"), ("Thornby-on-Sea", "TB"), ("Yarrowbridge", "YB"),
];

/// Ethnic categories (NHS Data Dictionary, ETHNIC CATEGORY) with their share in 100, roughly as in the census of 2021.
pub const ETHNICITIES: &[(&str, u64)] = &[
    ("A", 68), ("B", 2), ("C", 5), ("D", 1), ("G", 1), ("H", 3), ("J", 3), ("K", 1), ("L", 2), ("M", 2), ("N", 3),
    ("R", 1), ("S", 2), ("Z", 4), ("", 2),
];
