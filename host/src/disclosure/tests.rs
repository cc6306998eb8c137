//! Every small table: whoever knows the rules, what was released and how many people there are can compute no hidden cell.

use lockgate_signing::manifest::Manifest;
use lockgate_signing::text_format::TextFormat as _;

use super::*;

/// Some lines of some cells each; counts in the order of the cells, empty ones too.
#[derive(Clone, Copy)]
struct Shape {
    lines: usize,
    cells: usize,
}

/// What somebody sees of a table: cells, totals of lines if there are several, and the number of people, exactly.
type Seen = Vec<Option<u64>>;

fn seen(counts: &[u64], shape: Shape, rounding: Rounding) -> Seen {
    let lines = counts.chunks(shape.cells);
    let there: Vec<Vec<u64>> =
        lines.clone().map(|line| line.iter().copied().filter(|&count| count > 0).collect()).collect();
    let choice = choose_lines(&there, Some(counts.len() as u64), rounding);
    let mut shown = choice.cells.into_iter().flatten();
    let cells = counts.iter().map(|&count| {
        let shown = count > 0 && shown.next() == Some(true);
        shown.then(|| rounding.round(count))
    });
    let mut seen: Seen = cells.collect();
    if shape.lines > 1 {
        let totals = lines.map(|line| line.iter().sum()).zip(choice.totals);
        seen.extend(totals.map(|(total, shown)| shown.then(|| rounding.round(total))));
    }
    seen.push(Some(counts.iter().sum()));
    seen
}

/// Every table of a shape with counts up to `most`.
fn every_table(shape: Shape, most: u64, mut each: impl FnMut(&[u64])) {
    let mut counts = vec![0; shape.lines * shape.cells];
    loop {
        each(&counts);
        let Some(next) = counts.iter().position(|&count| count < most) else { return };
        counts[..next].fill(0);
        counts[next] += 1;
    }
}

#[test]
fn no_hidden_cell_can_be_computed_from_what_is_released() {
    let shape = |lines, cells| Shape { lines, cells };
    let mut tried = 0;
    for (smallest, to) in [(3, 3), (3, 2), (3, 1), (4, 3), (5, 5)] {
        let rounding = Rounding { smallest, to };
        let large = 2 * smallest + 4;
        for (shape, most) in [
            (shape(1, 2), large + 6),
            (shape(1, 3), large + 2),
            (shape(1, 4), large),
            (shape(2, 2), large),
            (shape(2, 3), 7),
            (shape(3, 2), 7),
        ] {
            // What each cell may be, by what is seen.
            let mut possible: HashMap<Seen, Vec<u64>> = HashMap::new();
            every_table(shape, most, |counts| {
                let of =
                    possible.entry(seen(counts, shape, rounding)).or_insert_with(|| vec![0; counts.len()]);
                of.iter_mut().zip(counts).for_each(|(values, count)| *values |= 1 << count);
            });
            every_table(shape, most / 2, |counts| {
                let seen = seen(counts, shape, rounding);
                // Where there is nobody, there is nothing to protect.
                if seen.last() == Some(&Some(0)) {
                    return;
                }
                for (cell, values) in possible[&seen].iter().enumerate() {
                    tried += 1;
                    assert!(
                        seen[cell].is_some() || values.count_ones() > 1,
                        "{counts:?} is seen as {seen:?}, which leaves only {} for cell {cell} \
                         (smallest cell {smallest}, rounded to {to})",
                        counts[cell]
                    );
                    assert!(counts[cell] >= smallest || seen[cell].is_none(), "{counts:?}: {seen:?}");
                }
            });
        }
    }
    assert!(tried > 300_000, "{tried}");
}

#[test]
fn the_second_cell_is_hidden_only_where_it_protects_the_first() {
    let rounding = Rounding { smallest: 5, to: 5 };
    let shown = |counts: &[u64], closed| {
        choose(counts, closed, rounding).iter().map(|shown| u8::from(*shown)).collect::<Vec<_>>()
    };
    // 503 people, 500 of them shown: the others are three.
    assert_eq!(shown(&[500, 3], Some(2)), [0, 0]);
    // Two small cells whose sum says enough of neither, and of which rounding says less.
    assert_eq!(shown(&[500, 400, 3, 2], Some(4)), [1, 1, 0, 0]);
    // Both are four, because they are eight together.
    assert_eq!(shown(&[500, 4, 4], Some(3)), [0, 0, 0]);
    assert_eq!(shown(&[500, 600, 700, 4, 4], Some(5)), [1, 1, 1, 0, 0]);
    assert_eq!(shown(&[5, 6, 7], Some(3)), [1, 1, 1]);
}

fn table(aggregate: &str) -> Table {
    let text = include_str!("../../../guest-modules/bad/manifests/control.toml");
    let start = text.find("[output.rows]").unwrap();
    let output = format!(
        "[output.counts]\ncolumns = [\n{{ name = \"sex\", type = \"category\", categories = [\"female\", \"male\"] }},\n\
         {{ name = \"patient\", type = \"patient\" }},\n\
         {{ name = \"age\", type = \"category\", categories = [\"young\", \"old\", \"unknown\"] }},\n]\n\
         aggregate = {{ count = \"patients\", smallest-cell = 5, round-to = 5{aggregate} }}\n"
    );
    let manifest = Manifest::decode((text[..start].to_owned() + &output).as_bytes()).unwrap();
    Table::of(manifest.outputs.values().next().unwrap()).unwrap()
}

/// Rows of (patient, sex, age).
fn take(table: &mut Table, rows: &[(u32, u8, u8)]) -> Result<(), Breach> {
    let column = |values| Column { values, missing: None };
    let columns = [
        column(Values::Categories(rows.iter().map(|row| row.1).collect())),
        column(Values::Patients(rows.iter().map(|row| row.0).collect())),
        column(Values::Categories(rows.iter().map(|row| row.2).collect())),
    ];
    table.take(&columns, rows.len())
}

/// Sex, age, count.
fn rows(released: &Released) -> Vec<(Option<u32>, Option<u32>, u64)> {
    let row = |at: usize| (released.dimensions[0][at], released.dimensions[1][at], released.counts[at]);
    (0..released.counts.len()).map(row).collect()
}

#[test]
fn a_patient_counts_once_in_a_cell_however_often_a_module_says_so() {
    let mut counted = table("");
    for _ in 0..100 {
        take(&mut counted, &[(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)]).unwrap();
    }
    let twelve: Vec<_> = (10..22).map(|patient| (patient, 1, 1)).collect();
    take(&mut counted, &twelve).unwrap();
    // Four are hidden. Whoever knows that there are sixteen has four to eight for five cells, which may be anything.
    let released = counted.release().unwrap();
    assert_eq!(rows(&released), [(Some(1), Some(1), 10)]);
    assert_eq!(released.suppressed, 5);

    let mut counted = table("");
    take(&mut counted, &twelve).unwrap();
    take(&mut counted, &(30..50).map(|patient| (patient, 0, 2)).collect::<Vec<_>>()).unwrap();
    take(&mut counted, &[(1, 0, 0), (1, 0, 0), (2, 0, 1), (3, 1, 0)]).unwrap();
    let released = counted.release().unwrap();
    assert_eq!(rows(&released), [(Some(0), Some(2), 20), (Some(1), Some(1), 10)]);
    assert_eq!(released.suppressed, 4);
}

#[test]
fn a_cell_for_each_patient_releases_nothing() {
    // Months, as cells that nobody can list.
    let text = include_str!("../../../guest-modules/bad/manifests/control.toml");
    let start = text.find("[output.rows]").unwrap();
    let output = "[output.counts]\ncolumns = [{ name = \"patient\", type = \"patient\" },\n\
                  { name = \"month\", type = \"date\", min = \"1895-01-01\", month = true }]\n\
                  aggregate = { count = \"patients\", smallest-cell = 5, round-to = 5 }\n";
    let manifest = Manifest::decode((text[..start].to_owned() + output).as_bytes()).unwrap();
    let mut table = Table::of(manifest.outputs.values().next().unwrap()).unwrap();
    let column = |values| Column { values, missing: None };
    let columns =
        [column(Values::Patients((0..1_000).collect())), column(Values::Dates((0..1_000).collect()))];
    table.take(&columns, 1_000).unwrap();
    let released = table.release().unwrap();
    assert!(released.counts.is_empty() && released.suppressed == 1_000);
}

#[test]
fn totals_add_up_and_nobody_is_in_two_cells() {
    let mut counted = table(", totals-by = \"sex\"");
    let people = |first: u32, sex, age, count: u32| -> Vec<_> {
        (first..first + count).map(|patient| (patient, sex, age)).collect()
    };
    for rows in [people(0, 0, 0, 41), people(100, 0, 1, 30), people(200, 0, 2, 2), people(300, 1, 0, 53)] {
        take(&mut counted, &rows).unwrap();
    }
    let released = counted.release().unwrap();
    let (female, male) = (Some(0), Some(1));
    assert_eq!(
        rows(&released),
        [
            // Two of unknown age are hidden, and rounding leaves open how many.
            (female, Some(0), 40),
            (female, Some(1), 30),
            (female, None, 75),
            // All men are young, and 55 would be 53 at least: with their number known, the empty cells would be empty.
            (male, None, 55),
            (None, None, 125),
        ]
    );

    let mut counted = table(", totals-by = \"sex\"");
    take(&mut counted, &[(1, 0, 0), (1, 0, 1)]).unwrap();
    assert_eq!(counted.release().err(), Some(Breach::TwoCells));
}
