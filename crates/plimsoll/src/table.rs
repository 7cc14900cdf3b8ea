//! Tables of text for people: columns as wide as their widest cell, numbers to the right.
//!
//! Rows of cells go in, lines come out. Cells hold plain text; what does not fit the terminal is the terminal's to break.

/// A table in the making; the first column and the last stand to the left, all others to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[String]) -> Table {
        Table { rows: vec![heads.to_vec()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// An empty line, then the rows; nothing if there are only heads.
    pub(crate) fn text(&self) -> String {
        if self.rows.len() == 1 {
            return String::new();
        }
        let columns = self.rows[0].len();
        let width = |n: usize| self.rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(n, (cell, &width))| match n {
                0 => format!("{cell:<width$}"),
                n if n + 1 == columns => cell.clone(),
                _ => format!("{cell:>width$}"),
            });
            out.push('\n');
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        out.push('\n');
        format!("\n{}", out.trim_start_matches('\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: [&str; 3]) -> Vec<String> {
        row.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&cells(["NAME", "N", "WHY"]));
        assert_eq!(table.text(), "", "no rows, no table");
        table.row(cells(["a", "1000", "x y"]));
        table.row(cells(["bücher", "2", ""]));
        assert_eq!(table.text(), "\nNAME       N  WHY\na       1000  x y\nbücher     2\n");
    }
}
