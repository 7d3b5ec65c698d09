//! Columns for people, aligned to what is in them.

use unicode_width::UnicodeWidthStr;

use crate::cell;

/// Widest that a column is made, in columns of the terminal. A longer value is
/// shown whole, and only its own line loses the alignment.
const WIDEST: usize = 48;
const GAP: &str = "  ";

/// Lays out page after page: a column grows with later pages and never
/// shrinks, so that nothing has to wait for the last page.
#[derive(Debug, Default)]
pub struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Lays out one page of rows, escaped; the header stands first, once.
    pub fn page(&mut self, header: &[&str], rows: &[Vec<String>]) -> String {
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
        if self.widths.is_empty() {
            self.widths = vec![0; header.len()];
            lines.push(header.iter().map(|name| name.to_uppercase().replace('_', " ")).collect());
        }
        for row in rows {
            lines.push(row.iter().map(|value| cell::escaped(value).into_owned()).collect());
        }
        for line in &lines {
            for (width, value) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(value.width().min(WIDEST));
            }
        }
        let mut text = String::new();
        for line in &lines {
            text.push_str(self.align(line).trim_end());
            text.push('\n');
        }
        text
    }

    fn align(&self, line: &[String]) -> String {
        let mut text = String::new();
        for (value, width) in line.iter().zip(&self.widths) {
            text.push_str(value);
            text.push_str(&" ".repeat(width.saturating_sub(value.width())));
            text.push_str(GAP);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|value| (*value).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_fit_their_content_and_grow_with_later_pages() {
        let mut table = Table::default();
        let header = ["kind", "display_name", "x"];
        let first = table.page(&header, &rows(&[["DISK", "東京", "1"], ["PACKAGE", "a", ""]]));
        assert_eq!(first, "KIND     DISPLAY NAME  X\nDISK     東京          1\nPACKAGE  a\n");
        let second = table.page(&header, &rows(&[["KERNEL_MODULE", "b", "2"]]));
        assert_eq!(second, "KERNEL_MODULE  b             2\n");
        assert_eq!(table.page(&header, &rows(&[["DISK", "c", "3"]])), "DISK           c             3\n");
    }

    #[test]
    fn a_long_value_is_whole_and_does_not_widen_the_column() {
        let mut table = Table::default();
        let long = "x".repeat(200);
        let text = table.page(&["a", "b", "c"], &rows(&[[&long, "b", "c"], ["a", "b", "c"]]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{long}  b  c"));
        assert_eq!(lines[2].find('b'), Some(WIDEST + GAP.len()));
    }

    #[test]
    fn a_value_cannot_drive_the_terminal_or_forge_a_line() {
        let text = Table::default().page(&["a", "b", "c"], &rows(&[["\u{1b}[2J", "b\nDISK", "c"]]));
        assert_eq!(text, "A          B        C\n\\u{1b}[2J  b\\nDISK  c\n");
    }
}
