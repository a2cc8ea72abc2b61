//! The account's tags ("WeChat: 标签管理"). Who carries them stands with the fans.

/// One tag.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    pub(crate) id: u64,
    pub(crate) name: String,
}

/// All tags: one of the system's, 星标组, then those of the account.
#[derive(Debug)]
pub(crate) struct Tags {
    list: Vec<Tag>,
    next: u64,
}

/// Tags of an account.
const MOST: usize = 100;
/// Letters of a name.
const NAME: usize = 30;

impl Default for Tags {
    fn default() -> Self {
        let starred = Tag {
            id: 2,
            name: "星标组".to_owned(),
        };
        Self {
            list: vec![starred],
            next: 100,
        }
    }
}

impl Tags {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.list.iter()
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.list.iter().any(|tag| tag.id == id)
    }

    /// Makes a tag.
    ///
    /// # Errors
    ///
    /// 45056 beyond 100 tags, 45157 for a name in use, 45158 for one over 30 letters, 40035 for none.
    pub(crate) fn create(&mut self, name: &str) -> Result<&Tag, i64> {
        self.check_name(name, None)?;
        if self.list.len() > MOST {
            return Err(45056);
        }
        let tag = Tag {
            id: self.next,
            name: name.to_owned(),
        };
        self.next += 1;
        self.list.push(tag);
        Ok(&self.list[self.list.len() - 1])
    }

    /// Renames a tag.
    ///
    /// # Errors
    ///
    /// Those of the name, 45058 for a tag of the system's, 45159 for an unknown one.
    pub(crate) fn rename(&mut self, id: u64, name: &str) -> Result<(), i64> {
        self.check_name(name, Some(id))?;
        let tag = self.find(id)?;
        name.clone_into(&mut tag.name);
        Ok(())
    }

    /// Removes a tag.
    ///
    /// # Errors
    ///
    /// 45058 for a tag of the system's, 45159 for an unknown one.
    pub(crate) fn delete(&mut self, id: u64) -> Result<(), i64> {
        self.find(id)?;
        self.list.retain(|tag| tag.id != id);
        Ok(())
    }

    fn find(&mut self, id: u64) -> Result<&mut Tag, i64> {
        if id <= 2 {
            return Err(45058);
        }
        self.list.iter_mut().find(|tag| tag.id == id).ok_or(45159)
    }

    fn check_name(&self, name: &str, of: Option<u64>) -> Result<(), i64> {
        if name.is_empty() {
            return Err(40035);
        }
        if name.chars().count() > NAME {
            return Err(45158);
        }
        let taken = |tag: &Tag| tag.name == name && Some(tag.id) != of;
        if self.list.iter().any(taken) {
            return Err(45157);
        }
        Ok(())
    }
}
