using Microsoft.EntityFrameworkCore.Migrations;

public partial class Rating : Migration
{
    protected override void Up(MigrationBuilder migrationBuilder)
    {
        migrationBuilder.AddColumn<int>(name: "update", table: "leads", nullable: true);
        migrationBuilder.Sql(@"UPDATE leads
            SET ""update"" = 1
            WHERE rating IS NULL;");
    }
}
