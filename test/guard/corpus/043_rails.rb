class AddWonAt < ActiveRecord::Migration[7.1]
  # it's only a column
  def up
    add_column :leads, :won_at, :datetime
    execute <<~SQL
      UPDATE leads
         SET won_at = created_at
       WHERE status = 'won'
    SQL
    execute "ALTER TABLE leads ALTER COLUMN won_at SET DEFAULT now()"
    Lead.where(status: nil).update_all(status: "new")
  end

  def down
    remove_column :leads, :won_at
  end
end
