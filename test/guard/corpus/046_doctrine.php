<?php

final class Version20260101 extends AbstractMigration
{
    public function up(Schema $schema): void
    {
        $this->addSql('ALTER TABLE leads ADD COLUMN rating INT');
        $this->addSql("UPDATE leads SET rating = 0 WHERE tenant_id = $tenant");
        // $this->addSql('DELETE FROM leads');
        $this->addSql('DELETE FROM ' . $table . ' WHERE rating < 0');
    }
}
