//! The page for those who come from aiosmtpd: what its tables promise stands in the programs below them, which the
//! documentation tests of sansmtp-smol compile.

#[test]
fn every_line_of_a_table_is_in_the_next_program() {
    let page = include_str!("../src/coming_from_aiosmtpd.md");
    let (mut promised, mut program, mut checked) = (Vec::new(), None::<String>, 0);
    let mut last_program = 0;
    let mut check = |promised: &mut Vec<&'static str>, program: &str| {
        checked += promised.len();
        // A table may be followed by several programs; what one does not have, the next one must.
        promised.retain(|line| !squeezed(program).contains(&squeezed(&line.replace(r"\|", "|"))));
    };
    for (number, line) in page.lines().enumerate() {
        match (&mut program, line) {
            (Some(whole), "```") => {
                check(&mut promised, whole);
                (program, last_program) = (None, number);
            }
            (Some(whole), line) => {
                whole.push_str(line.strip_prefix("# ").unwrap_or(line));
                whole.push('\n');
            }
            (None, line) if line.starts_with("```") => program = Some(String::new()),
            (None, line) if line.starts_with("# ") => {
                assert_eq!(promised, [""; 0], "above line {}, {line}", number + 1);
            }
            (None, line) => promised.extend(lines_here(line)),
        }
    }
    assert_eq!(promised, [""; 0], "behind line {last_program}");
    assert!(checked > 100, "the tables have {checked} lines");
}

/// The lines in a row's second column.
fn lines_here(row: &'static str) -> Vec<&'static str> {
    if !row.starts_with("| ") {
        return Vec::new();
    }
    // Bars within a cell are escaped.
    let mut bars = row.match_indices(" | ").map(|(at, _)| at);
    let (Some(start), Some(end)) = (bars.next(), bars.next()) else { return Vec::new() };
    let cell = row.get(start + 3..end).unwrap_or_default();
    cell.split('`').skip(1).step_by(2).collect()
}

/// The text without white space, which is wherever the formatter wants it.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}
