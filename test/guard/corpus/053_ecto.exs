defmodule Crm.Repo.Migrations.AddRegion do
  use Ecto.Migration

  def change do
    alter table(:leads) do
      add :region, :text
    end

    execute "UPDATE leads SET region = 'eu' WHERE region IS NULL", ""
    execute """
    CREATE INDEX leads_region ON leads (region)
    """
  end
end
