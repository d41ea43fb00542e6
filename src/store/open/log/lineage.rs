//! Which database a log was written for: see [`super::super::generation`].

use crate::store::open::generation::{Generation, Main, Mark};

/// Where the header of the database, on its first page, has the schema cookie.
const COOKIE_AT: std::ops::Range<usize> = 40..44;

/// What the transactions of a log say of their database, as far as SQLite would read them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    page_bytes: usize,
    pub(super) transactions: u64,
    /// The first mark: it names the generation before the log.
    pub(super) first: Option<Mark>,
    /// A checkpoint may have put any of these into the database.
    generations: Vec<Generation>,
    /// The schema cookie before the log, where it is proven.
    cookie: Option<u32>,
    /// All that came later.
    cookies: Vec<u32>,
    /// Of the transaction that has not ended yet.
    open: Open,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Open {
    mark: Option<Mark>,
    cookie: Option<u32>,
}

impl Lineage {
    /// A log with pages of this size, of which nothing is seen yet.
    pub(super) fn of_pages(page_bytes: usize) -> Self {
        Self { page_bytes, ..Self::default() }
    }

    /// The next frame.
    pub(super) fn see(&mut self, page_number: u32, page: &[u8], commits: bool) {
        if page_number == 1 {
            let cookie = page[COOKIE_AT].try_into().expect("four bytes");
            self.open.cookie = Some(u32::from_be_bytes(cookie));
        } else if let Some(mark) = Mark::on_page(page) {
            self.open.mark = Some(mark);
        }
        if !commits {
            return;
        }
        let Open { mark, cookie } = std::mem::take(&mut self.open);
        if self.transactions == 0 {
            // Cookies only grow: one that is in the mark and on the page has not changed in between. Another program's first
            // transaction writes no mark.
            self.cookie = cookie.filter(|cookie| mark.is_some_and(|mark| mark.cookie == *cookie));
        }
        self.transactions += 1;
        if let Some(mark) = mark {
            self.first.get_or_insert(mark);
            if !self.generations.contains(&mark.generation) {
                self.generations.push(mark.generation);
            }
        }
        if let Some(cookie) = cookie.filter(|cookie| !self.cookies.contains(cookie)) {
            self.cookies.push(cookie);
        }
    }

    pub(super) fn contradicts(&self, main: &Main) -> Option<String> {
        if self.transactions == 0 {
            return None;
        }
        if self.page_bytes != main.page_bytes {
            let (log, database) = (self.page_bytes, main.page_bytes);
            return Some(format!("its pages have {log} bytes, the database's have {database}"));
        }
        if let (Some(first), Some(generation)) = (self.first, main.generation)
            && first.before != generation
            && !self.generations.contains(&generation)
        {
            let [before, found] = [first.before, generation].map(short);
            return Some(format!(
                "it continues the state {before} of a database, and this one is in state {found}"
            ));
        }
        if let Some(cookie) = self.cookie
            && cookie != main.cookie
            && !self.cookies.contains(&main.cookie)
        {
            return Some(format!(
                "it continues a database with schema cookie {cookie}, and this one, a copy, has {}",
                main.cookie
            ));
        }
        None
    }
}

/// Enough of it to tell two apart.
fn short(generation: Generation) -> String {
    if generation == [0; 16] {
        return "0".to_owned();
    }
    generation[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(generation: u8, cookie: u32) -> Mark {
        Mark { generation: [generation; 16], before: [generation - 1; 16], cookie }
    }

    fn main(generation: u8, cookie: u32) -> Main {
        Main { generation: Some([generation; 16]), cookie, page_bytes: 512 }
    }

    fn transaction(lineage: &mut Lineage, mark: Option<Mark>, cookie: Option<u32>) {
        lineage.open = Open { mark, cookie };
        lineage.see(9, &[0; 512], true);
    }

    fn fits(lineage: &Lineage, main: Main) -> bool {
        lineage.contradicts(&main).is_none()
    }

    #[test]
    fn a_log_fits_the_database_before_it_and_any_that_it_was_copied_into() {
        let mut lineage = Lineage::of_pages(512);
        assert!(fits(&lineage, main(9, 9)), "an empty log fits everything");
        transaction(&mut lineage, Some(mark(3, 20)), Some(20));
        transaction(&mut lineage, None, None);
        transaction(&mut lineage, Some(mark(4, 20)), Some(21));
        for fitting in [main(2, 20), main(3, 20), main(4, 21), main(4, 20)] {
            assert!(fits(&lineage, fitting), "{fitting:?}");
        }
        assert!(fits(&lineage, Main { generation: None, ..main(1, 20) }), "a damaged mark is none");
        for foreign in [main(1, 20), main(5, 20), main(0, 20), main(3, 22), main(3, 1)] {
            assert!(!fits(&lineage, foreign), "{foreign:?}");
        }
        assert!(!fits(&lineage, Main { page_bytes: 4096, ..main(3, 20) }));
    }

    #[test]
    fn a_log_that_another_program_began_proves_no_cookie_and_still_a_generation() {
        let mut lineage = Lineage::of_pages(512);
        // Its own tables, then a message.
        transaction(&mut lineage, None, Some(31));
        transaction(&mut lineage, Some(mark(4, 20)), Some(31));
        assert!(fits(&lineage, main(4, 30)) && fits(&lineage, main(3, 30)));
        assert!(!fits(&lineage, main(2, 30)));
        // A program's tables in the first transaction of ours: the mark is older.
        let mut lineage = Lineage::of_pages(512);
        transaction(&mut lineage, Some(mark(4, 20)), Some(31));
        assert!(fits(&lineage, main(4, 30)));
    }

    #[test]
    fn a_log_without_marks_fits_every_database() {
        let mut lineage = Lineage::of_pages(512);
        transaction(&mut lineage, None, Some(31));
        transaction(&mut lineage, None, None);
        assert!(fits(&lineage, main(7, 3)));
    }
}
