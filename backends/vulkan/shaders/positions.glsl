// SPDX-License-Identifier: Apache-2.0
/* Row `row`'s place in a table of positions; what lies beyond the table never comes so far. */
uint position_row(uint row, uint offset, uint n_positions) {
  uint position = step_word[step_word[STEP_ROW] + 2u * row + 1u];
  return min(position + offset, n_positions - 1u);
}
