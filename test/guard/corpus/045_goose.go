package migrations

import "database/sql"

func up(tx *sql.Tx) error {
	_, err := tx.Exec(`ALTER TABLE leads ADD COLUMN region text`)
	if err != nil {
		return err
	}
	// fill it
	_, err = tx.Exec("UPDATE leads SET region = $1 WHERE region IS NULL", "eu")
	return err
}
