//! Round robin's side of a pick: what servers say to their turns.
//!
//! In go who can serve and whose share still grows, out comes who takes the request. A turn given away is gone, or a share would not be one.

use super::{Balancer, Group, Question};
use crate::dice::Dice;
use crate::rotation::{Answer, Rotation};

impl Balancer {
    /// Of those that are eligible (at least one), where a few looks found nobody.
    pub(super) fn whose_turn(
        &self,
        rotation: &Rotation,
        eligible: &[u32],
        question: &Question<'_>,
        group: Group,
        dice: &mut Dice,
    ) -> u32 {
        let turn = rotation.turn(|index| self.answer(index, question, group, dice));
        turn.or_else(|| rotation.among(eligible)).unwrap_or(eligible[0])
    }

    /// What a member of the group's tier says to its turn.
    #[inline(always)]
    pub(super) fn answer(
        &self,
        index: u32,
        question: &Question<'_>,
        group: Group,
        dice: &mut Dice,
    ) -> Answer {
        if !self.open(index, question, group) {
            Answer::Cannot
        } else if self.admits(index, question, dice) {
            Answer::Takes
        } else {
            Answer::GivesAway
        }
    }
}
